// SPDX-License-Identifier: Apache-2.0
#include <devices/event_queue.hpp>

#include <devices/ticks.hpp>
#include <support/child_process.hpp>
#include <support/random.hpp>
#include <support/scratch_fabric.hpp>

#include <doctest/doctest.h>

#include <fcntl.h>
#include <poll.h>
#include <sched.h>

#include <atomic>
#include <memory>
#include <set>
#include <thread>
#include <vector>

using dibs::device_number;
using dibs::event_queue;
using dibs::event_queues;
using dibs::gid;
using dibs::record_side;
using dibs::rendezvous;
using dibs::signaller;
using support::scratch_fabric;

namespace {

gid gid_of(std::uint8_t value) {
  gid id;
  id.bytes.fill(value);
  return id;
}

// A device with queues, and a sender that could be anybody's.
struct device {
  explicit device(const scratch_fabric& scratch, const gid& id = gid_of(1)) : in(scratch.open()) {
    auto opened = rendezvous::open(in);
    REQUIRE(opened.has_value());
    meeting = std::move(*opened);
    const auto entered = meeting.enter(id);
    REQUIRE(entered.has_value());
    number = *entered;
    auto made = event_queues::create(in, id, number);
    REQUIRE(made.has_value());
    queues = std::move(*made);
    sender->open(in, meeting);
  }
  [[nodiscard]] event_queue open_queue() {
    auto opened = event_queue::open(queues);
    REQUIRE(opened.has_value());
    return std::move(*opened);
  }

  dibs::fabric in;
  rendezvous meeting;
  device_number number;
  event_queues queues;
  std::unique_ptr<signaller> sender = std::make_unique<signaller>();
};

bool rings(const event_queue& queue) {
  pollfd ask{queue.bell(), POLLIN, 0};
  return ::poll(&ask, 1, 0) > 0;
}

std::vector<std::uint16_t> taken(event_queue& queue) {
  std::vector<std::uint16_t> bits;
  queue.take_bits([&](std::uint16_t bit) { bits.push_back(bit); });
  return bits;
}

using bits = std::vector<std::uint16_t>;

}  // namespace

TEST_CASE("event_queue: bits are taken in the order in which they were set") {
  const scratch_fabric scratch;
  device mine(scratch);
  event_queue queue = mine.open_queue();
  const bits order{700, 3, 4095, 64, 0, 65};
  for (int round = 0; round < 100; ++round) {
    for (const std::uint16_t bit : order) queue.set_bit(bit);
    queue.set_bit(order[0]);  // known already
    CHECK(taken(queue) == order);
  }
  // So many that there are no notes of the first ones any more: those are told
  // before, and none is lost.
  bits many;
  for (std::uint16_t i = 0; i < dibs::queue_notes + 2; ++i) {
    many.push_back(static_cast<std::uint16_t>(2000 - i));
    queue.set_bit(many.back());
  }
  std::swap(many[0], many[1]);
  CHECK(taken(queue) == many);
}

TEST_CASE("event_queue: a waiter survives its word, and no waiter is zero") {
  support::random random(1);
  CHECK(dibs::waiter{}.word() != 0);
  for (int i = 0; i < 1000; ++i) {
    const dibs::waiter who{
        {static_cast<std::uint16_t>(random.next()), static_cast<std::uint16_t>(random.next())},
        static_cast<std::uint16_t>(random.below(dibs::queues_per_device)),
        static_cast<std::uint16_t>(random.below(dibs::queue_bits))};
    const auto back = dibs::waiter::from_word(who.word());
    CHECK(who.word() != 0);
    CHECK(back.device == who.device);
    CHECK(back.queue == who.queue);
    CHECK(back.bit == who.bit);
  }
}

TEST_CASE("event_queue: whoever rings while the waiter dies gets no SIGPIPE") {
  const scratch_fabric scratch;
  device own(scratch);
  event_queue queue = own.open_queue();
  record_side side{};
  REQUIRE(dibs::enter_waiter(side, queue.word(1)));
  // Only the thread below has the bell now.
  ::close(queue.bell());
  std::atomic<bool> is_over{false};
  std::thread waiter([&] {
    const auto name = own.in.bell_path(gid_of(1), 0);
    while (!is_over) ::close(::open(name.data(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  });
  for (int i = 0; i < 20'000; ++i) {
    queue.arm();
    own.sender->signal(side);
  }
  is_over = true;
  waiter.join();
  CHECK(queue.has_bits());
}

TEST_CASE("event_queue: a signal sets the bit, and rings only when armed, and only once") {
  const scratch_fabric scratch;
  device own(scratch);
  event_queue queue = own.open_queue();
  record_side side{};
  REQUIRE(dibs::enter_waiter(side, queue.word(77)));

  own.sender->signal(side);
  CHECK(!rings(queue));
  CHECK(queue.has_bits());
  CHECK(taken(queue) == bits{77});
  CHECK(!queue.has_bits());
  CHECK(taken(queue).empty());

  queue.arm();
  CHECK(!rings(queue));
  own.sender->signal(side);
  own.sender->signal(side);
  CHECK(rings(queue));
  char bytes[8];
  CHECK(::read(queue.bell(), bytes, sizeof bytes) == 1);
  CHECK(!rings(queue));
  CHECK(taken(queue) == bits{77});

  queue.arm();
  queue.disarm();
  own.sender->signal(side);
  CHECK(!rings(queue));
}

TEST_CASE("event_queue: every bit comes back as itself") {
  const scratch_fabric scratch;
  device own(scratch);
  event_queue queue = own.open_queue();
  std::set<std::uint16_t> wanted;
  for (const int bit : {0, 1, 63, 64, 65, 127, 2047, 2048, 4032, 4094, 4095}) {
    record_side side{};
    REQUIRE(dibs::enter_waiter(side, queue.word(static_cast<std::uint16_t>(bit))));
    own.sender->signal(side);
    own.sender->signal(side);
    wanted.insert(static_cast<std::uint16_t>(bit));
  }
  const bits got = taken(queue);
  CHECK(got.size() == wanted.size());
  CHECK(std::set<std::uint16_t>(got.begin(), got.end()) == wanted);
  queue.set_bit(5);
  CHECK(taken(queue) == bits{5});
}

TEST_CASE("event_queue: drain_bell empties the bell, however often it rang") {
  const scratch_fabric scratch;
  device own(scratch);
  event_queue queue = own.open_queue();
  record_side side{};
  REQUIRE(dibs::enter_waiter(side, queue.word(0)));
  for (int i = 0; i < 1000; ++i) {
    queue.arm();
    own.sender->signal(side);
  }
  CHECK(rings(queue));
  queue.drain_bell();
  CHECK(!rings(queue));
  // A bell that nobody empties does not stop the sender.
  for (int i = 0; i < 70000; ++i) {
    queue.arm();
    own.sender->signal(side);
  }
  CHECK(rings(queue));
}

TEST_CASE("event_queue: a record has room for max_waiters, each once") {
  const scratch_fabric scratch;
  device own(scratch);
  event_queue queue = own.open_queue();
  record_side side{};
  for (std::uint16_t bit = 0; bit < dibs::max_waiters; ++bit) {
    CHECK(dibs::enter_waiter(side, queue.word(bit)));
    CHECK(dibs::enter_waiter(side, queue.word(bit)));
  }
  CHECK(!dibs::enter_waiter(side, queue.word(100)));
  own.sender->signal(side);
  CHECK(taken(queue) == bits{0, 1, 2, 3});
  dibs::leave_waiter(side, queue.word(100));
  dibs::leave_waiter(side, queue.word(1));
  dibs::leave_waiter(side, queue.word(1));
  CHECK(dibs::enter_waiter(side, queue.word(100)));
  own.sender->signal(side);
  CHECK(taken(queue) == bits{0, 100, 2, 3});
  for (const std::uint16_t bit : bits{0, 2, 3, 100}) dibs::leave_waiter(side, queue.word(bit));
  own.sender->signal(side);
  CHECK(taken(queue).empty());
}

TEST_CASE("event_queue: queues of a device are its waiters' own, until they are given back") {
  const scratch_fabric scratch;
  device own(scratch);
  {
    event_queue one = own.open_queue();
    event_queue two = own.open_queue();
    CHECK(one.word(1) != two.word(1));
    CHECK(scratch.count_files(".bell.") == 2);
    record_side side{};
    REQUIRE(dibs::enter_waiter(side, one.word(1)));
    own.sender->signal(side);
    CHECK(!two.has_bits());
    event_queue moved = std::move(one);
    CHECK(!one.is_open());
    CHECK(taken(moved) == bits{1});
  }
  CHECK(scratch.count_files(".bell.") == 0);

  std::vector<std::uint16_t> claimed;
  for (std::uint32_t i = 0; i < dibs::queues_per_device; ++i) {
    const auto queue = own.queues.claim();
    REQUIRE(queue.has_value());
    claimed.push_back(*queue);
  }
  CHECK(std::set<std::uint16_t>(claimed.begin(), claimed.end()).size() == claimed.size());
  CHECK(own.queues.claim().error() == dibs::errc::fabric_full);
  own.queues.give_back(claimed[500]);
  const auto again = own.queues.claim();
  REQUIRE(again.has_value());
  CHECK(*again == claimed[500]);
}

TEST_CASE("event_queue: a bell that the program closed is opened again") {
  const scratch_fabric scratch;
  device own(scratch);
  event_queue queue = own.open_queue();
  CHECK(queue.ensure_bell());
  const int number = queue.bell();
  ::close(number);
  const int foreign = ::open("/dev/null", O_RDONLY);
  REQUIRE(foreign == number);
  CHECK(queue.ensure_bell());
  CHECK(queue.bell() != number);
  CHECK(::fcntl(number, F_GETFD) >= 0);
  record_side side{};
  REQUIRE(dibs::enter_waiter(side, queue.word(3)));
  queue.arm();
  own.sender->signal(side);
  CHECK(rings(queue));
  ::close(foreign);
}

TEST_CASE("event_queue: a child of fork abandons what is its parent's") {
  const scratch_fabric scratch;
  device own(scratch);
  event_queue queue = own.open_queue();
  support::child_process child([&] {
    queue.abandon();
    return queue.is_open() ? 1 : 0;
  });
  CHECK(child.wait() == 0);
  CHECK(scratch.count_files(".bell.") == 1);
  record_side side{};
  REQUIRE(dibs::enter_waiter(side, queue.word(3)));
  queue.arm();
  own.sender->signal(side);
  CHECK(rings(queue));
}

TEST_CASE("event_queue: another process wakes a sleeper") {
  const scratch_fabric scratch;
  device own(scratch);
  event_queue queue = own.open_queue();
  const auto record =
      own.meeting.publish({1, dibs::v4_address(1, 1), dibs::v4_address(1, 2)}, gid_of(1), 0, 0);
  REQUIRE(record.at != nullptr);
  REQUIRE(dibs::enter_waiter(record.at->client, queue.word(9)));
  queue.arm();
  support::child_process child([&] {
    auto meeting = rendezvous::open(scratch.open());
    if (!meeting) return 1;
    auto sender = std::make_unique<signaller>();
    sender->open(scratch.open(), *meeting);
    auto* found = meeting->record_at(own.meeting.index_of(record.at));
    errno = ERANGE;
    sender->signal(found->client);
    return errno == ERANGE ? 0 : 2;
  });
  pollfd ask{queue.bell(), POLLIN, 0};
  CHECK(::poll(&ask, 1, 20000) == 1);
  CHECK(taken(queue) == bits{9});
  CHECK(child.wait() == 0);
}

TEST_CASE("event_queue: a sender knows whether it would reach who sleeps") {
  const scratch_fabric scratch;
  device own(scratch);
  event_queue queue = own.open_queue();
  record_side side{};
  dibs::held_bell nobody;
  CHECK(own.sender->can_wake(side, nobody));
  REQUIRE(dibs::enter_waiter(side, queue.word(1)));
  queue.arm();
  dibs::held_bell held;
  REQUIRE(own.sender->can_wake(side, held));
  CHECK(held.is_open());
  REQUIRE(::unlink(own.in.bell_path(gid_of(1), 0).data()) == 0);

  // Whom nobody has to ring for is reached. A sleeper only by who holds the bell.
  queue.disarm();
  dibs::held_bell none;
  CHECK(own.sender->can_wake(side, none));
  queue.arm();
  CHECK_FALSE(own.sender->can_wake(side, none));
  CHECK(own.sender->can_wake(side, held));
  own.sender->signal(side, held);
  CHECK(rings(queue));
  CHECK(taken(queue) == bits{1});

  side.waiters[1] = queue.word(dibs::queue_bits - 1) + (std::uint64_t{7} << 48);
  queue.disarm();
  CHECK_FALSE(own.sender->can_wake(side, none));
}

TEST_CASE("event_queue: hostile waiter words wake nobody and break nothing") {
  const scratch_fabric scratch;
  device own(scratch);
  event_queue queue = own.open_queue();
  queue.arm();
  support::random random(7);
  record_side side{};
  const auto send = [&](std::uint64_t word) {
    side.waiters[random.below(dibs::max_waiters)].store(word);
    own.sender->signal(side);
  };
  const std::uint64_t mine = queue.word(0);
  for (int i = 0; i < 20000; ++i) send(random.next());
  for (int i = 0; i < 64; ++i) {
    for (auto& waiting : side.waiters) waiting.store(0);
    // One bit of a good word is wrong: another queue or bit of this device, a
    // device that is not there, or out of all ranges. The bit is never stray.
    send(mine ^ std::uint64_t{1} << i);
  }
  for (const std::uint64_t word : {~std::uint64_t{0}, std::uint64_t{1}, mine | 0xFFFF,
                                   mine | 0xFFFF0000, mine & ~std::uint64_t{0xFFFF0000}}) {
    send(word);
  }
  // Bits of this very queue may be set by anybody; that costs us a look.
  for (const std::uint16_t bit : taken(queue)) CHECK(bit < dibs::queue_bits);
}

TEST_CASE("event_queue: a stale device number wakes nobody, and its successor is reached") {
  const scratch_fabric scratch;
  device own(scratch);  // the sender's
  auto gone = std::make_unique<device>(scratch, gid_of(2));
  event_queue old_queue = gone->open_queue();
  record_side stale{};
  REQUIRE(dibs::enter_waiter(stale, old_queue.word(1)));
  own.sender->signal(stale);
  CHECK(taken(old_queue) == bits{1});
  own.meeting.leave(gid_of(2));
  // Known to the sender from before: may set a bit that nobody looks at.
  own.sender->signal(stale);

  device next(scratch, gid_of(3));
  REQUIRE(next.number.index == gone->number.index);
  event_queue queue = next.open_queue();
  record_side side{};
  REQUIRE(dibs::enter_waiter(side, queue.word(2)));
  queue.arm();
  own.sender->signal(side);
  CHECK(rings(queue));
  CHECK(taken(queue) == bits{2});
  // Now the old word names a generation that is gone.
  own.sender->signal(stale);
  CHECK(!queue.has_bits());
}

TEST_CASE("event_queue: a waiter that was killed is signalled into the void") {
  const scratch_fabric scratch;
  device own(scratch);
  support::meeting_point meet;
  const auto record =
      own.meeting.publish({1, dibs::v4_address(1, 1), dibs::v4_address(1, 2)}, gid_of(1), 0, 0);
  support::child_process child([&] {
    device theirs(scratch, gid_of(2));
    event_queue queue = theirs.open_queue();
    static_cast<void>(dibs::enter_waiter(record.at->server, queue.word(4)));
    queue.arm();
    meet.tell_parent();
    ::pause();
    return 0;
  });
  meet.await_child();
  child.kill();
  REQUIRE(record.at->server.waiters[0].load() != 0);
  for (int i = 0; i < 10; ++i) own.sender->signal(record.at->server);
  own.meeting.leave(gid_of(2));
  own.in.remove_device(gid_of(2));
  for (int i = 0; i < 10; ++i) own.sender->signal(record.at->server);
  // One that the sender meets only when it is gone.
  auto late = std::make_unique<signaller>();
  late->open(own.in, own.meeting);
  late->signal(record.at->server);
  CHECK(scratch.count_files(dibs::to_text(gid_of(2)).data()) == 0);
}

namespace {

// In each round the sender publishes while the waiter arms: both at the same
// moment of the clock, give or take what a cache line needs to change hands.
void exchange(int rounds, bool enters_each_time) {
  const scratch_fabric scratch;
  device own(scratch);
  event_queue queue = own.open_queue();
  record_side side{};
  const std::uint64_t word = queue.word(1);
  if (!enters_each_time) REQUIRE(dibs::enter_waiter(side, word));
  alignas(64) std::atomic<int> cursor{0};
  alignas(64) std::atomic<int> round{0};
  std::uint64_t begin = 0;  // of the round, ticks
  alignas(64) std::atomic<bool> is_lost{false};
  const auto await_begin = [&](support::random& random) {
    const std::uint64_t at = begin + random.below(400);
    while (static_cast<std::int64_t>(dibs::ticks() - at) < 0) {
    }
  };

  std::thread sender([&] {
    support::random random(3);
    for (int i = 1; i <= rounds; ++i) {
      for (int spins = 0; round.load(std::memory_order_acquire) != i; ++spins) {
        if (is_lost) return;
        if (spins % 1000 == 999) ::sched_yield();
      }
      await_begin(random);
      cursor.store(i, std::memory_order_seq_cst);
      own.sender->signal(side);
    }
  });
  support::random random(4);
  int sleeps = 0;
  for (int i = 1; i <= rounds && !is_lost; ++i) {
    begin = dibs::ticks() + 1000;
    round.store(i, std::memory_order_release);
    await_begin(random);
    for (;;) {
      if (enters_each_time) REQUIRE(dibs::enter_waiter(side, word));
      queue.arm();
      const bool is_there = cursor.load(std::memory_order_seq_cst) == i;
      if (!is_there) {
        ++sleeps;
        pollfd ask{queue.bell(), POLLIN, 0};
        if (::poll(&ask, 1, 5000) != 1) is_lost = true;
        queue.drain_bell();
      }
      queue.disarm();
      if (enters_each_time) dibs::leave_waiter(side, word);
      static_cast<void>(taken(queue));
      if (is_there || is_lost) break;
    }
  }
  sender.join();
  CHECK_MESSAGE(!is_lost, "a wake-up was lost");
  MESSAGE("slept " << sleeps << " times in " << rounds << " rounds");
}

}  // namespace

TEST_CASE("event_queue: no wake-up is lost between arming and publishing" *
          doctest::test_suite("long")) {
  exchange(100000, false);
}

TEST_CASE("event_queue: no wake-up is lost when the waiter enters its word each time" *
          doctest::test_suite("long")) {
  exchange(30000, true);
}
