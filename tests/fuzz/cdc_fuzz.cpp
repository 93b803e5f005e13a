// SPDX-License-Identifier: Apache-2.0
// A peer that writes what it likes wherever it may: the DMB that we read, its
// side of the record, the TCP lane. The input is a script of that, of what an
// honest peer does, and of our own program's calls. Whatever it is, calls come
// back, give no more than was asked for, and the next connection works.
#include <smcd/connection.hpp>

#include <fuzz/script.hpp>
#include <support/two_ends.hpp>

#include <array>
#include <cstring>
#include <memory>
#include <vector>

using fuzz::expect;
using support::end_point;

namespace {

constexpr std::size_t ring_size = 16 * 1024 - 32;
// More TCP calls than that, and a call goes round in circles.
constexpr std::uint64_t most_calls = 1000;

class battle {
 public:
  battle(support::two_ends& on, fuzz::script& todo, bool is_victim_client)
      : ends_(on),
        todo_(todo),
        victim_(is_victim_client ? on.client : on.server),
        peer_(is_victim_client ? on.server : on.client),
        peer_stack_(is_victim_client ? on.stacks().of_server() : on.stacks().of_client()),
        buffer_(std::size_t{1} << 17) {}

  // The record was damaged beyond what a connection can make good.
  [[nodiscard]] bool run() {
    while (!todo_.is_over() && !is_closed_) {
      const std::uint64_t calls = victim_.tcp.calls;
      is_patient_ = false;
      if (const std::uint8_t what = todo_.byte(); what % 2 == 0) {
        call(what / 2);
      } else {
        attack(what / 2);
      }
      // close() and give_to_kernel() have their patience, of time.
      expect(is_closed_ || is_patient_ || victim_.tcp.calls - calls < most_calls);
    }
    victim_.tcp.before = nullptr;
    peer_.tcp.before = nullptr;
    if (!is_closed_) static_cast<void>(victim_.close());
    static_cast<void>(peer_.close());
    return is_record_damaged_;
  }

 private:
  std::span<std::byte> some() {
    return std::span(buffer_).first((std::size_t{todo_.number<std::uint16_t>()} << 1) + 1);
  }
  smcd::connection& ours() { return victim_.connection; }

  // What our own program, or its driver, does.
  void call(unsigned what) {
    switch (what % 16) {
      case 0:
      case 1: {
        const auto to = some();
        const auto got = victim_.read(to, what / 16 % 4 == 0);
        expect(!got || *got <= to.size());
        break;
      }
      case 2:
      case 3: {
        const auto from = some();
        const auto sent = victim_.write(from);
        expect(!sent || *sent <= from.size());
        break;
      }
      case 4: static_cast<void>(ours().has_input(victim_.tcp)); break;
      case 5: static_cast<void>(ours().has_room(victim_.tcp, ends_.clock().now())); break;
      case 6:
        expect(ours().readable_size(victim_.tcp) <= ring_size + victim_.tcp.pending());
        expect(ours().unread_by_peer() <= ring_size);
        break;
      case 7: static_cast<void>(ours().has_dmb_input(victim_.tcp)); break;
      case 8:
        static_cast<void>(ours().input_hint() || ours().shares_cpu());
        if (ours().is_established()) static_cast<void>(ours().room_hint());
        static_cast<void>(ours().peer_is_done_sending());
        break;
      case 9: victim_.shutdown_write(); break;
      case 10:
        ours().advance(victim_.tcp);
        if (what / 16 % 2 != 0) ours().rest(ends_.clock().now());
        break;
      case 11:
        if (what / 16 % 2 == 0) {
          ours().stay_on_tcp(smcd::decline_code::option_unsupported);
        } else {
          is_patient_ = true;
          const auto then = what / 32 % 2 == 0 ? smcd::connection::after_leaving::drains
                                               : smcd::connection::after_leaving::is_over;
          static_cast<void>(ours().give_to_kernel(victim_.tcp, then));
        }
        break;
      case 12: {
        const auto word = todo_.number<std::uint64_t>();
        static_cast<void>(ours().enter_waiter(word));
        ours().wake_waiters();
        if (word % 2 == 0) ours().leave_waiter(word);
        break;
      }
      case 13:
      case 14: {
        // The next attack comes while we are in the middle of a call.
        victim_.tcp.before = [this](support::fake_tcp::call) {
          if (!todo_.is_over()) attack(todo_.byte());
          victim_.tcp.before = nullptr;
        };
        break;
      }
      case 15:
        if (what / 16 != 7) break;
        static_cast<void>(victim_.close());
        is_closed_ = true;
        break;
    }
  }

  // Bytes into our DMB, as far as the peer has it.
  void poke(std::uint32_t offset, std::span<const std::byte> bytes) {
    const smcd::end_state& state = ours().state();
    static_cast<void>(peer_stack_.device().move_data(state.self, {state.dmb_token}, offset, bytes));
  }
  void poke_word(std::uint32_t offset, std::uint64_t word) {
    poke(offset, std::as_bytes(std::span(&word, 1)));
  }
  // Near a place that a cursor may have; then it gets past the checks.
  std::uint64_t word_near(const smcd::direction& of) {
    smcd::cdc::cursor_word word;
    const std::uint32_t forward = todo_.number<std::uint16_t>() % (ring_size + 2);
    const std::uint32_t n = forward > ring_size ? 0 : forward;
    word.at = smcd::cursor_of(smcd::advance(of.now().at, n, ring_size));
    if (forward > ring_size) word.at.count = ring_size;
    word.producer_flags = todo_.byte();
    word.connection_flags = todo_.byte() & todo_.byte();
    return smcd::cdc::pack(word);
  }

  void attack(unsigned what) {
    constexpr std::uint32_t producer_at = offsetof(smcd::cdc::record, producer);
    constexpr std::uint32_t consumer_at = offsetof(smcd::cdc::record, consumer);
    dibs::record_side& side = peer_.side();
    switch (what % 16) {
      case 0: poke_word(producer_at, todo_.number<std::uint64_t>()); break;
      case 1: poke_word(producer_at, word_near(ours().state().receiving)); break;
      case 2: poke_word(consumer_at, todo_.number<std::uint64_t>()); break;
      case 3:
        // Behind what we wrote.
        poke_word(consumer_at, word_near(ours().state().sending) - (1U << 16));
        break;
      case 4: {
        const std::uint32_t offset = todo_.number<std::uint16_t>();
        poke(offset, std::as_bytes(todo_.take(todo_.byte())));
        break;
      }
      case 5: {
        dibs::mark& mark = side.marks[todo_.byte() % dibs::max_marks];
        mark.offset = todo_.number<std::uint64_t>();
        mark.kind = todo_.number<std::uint32_t>();
        mark.length = todo_.number<std::uint32_t>();
        break;
      }
      case 6: {
        // One that is valid, or nearly.
        std::uint32_t published = ours().state().receiving.marks;
        const dibs::mark added{ours().state().receiving.offset() + todo_.byte(), todo_.byte() % 6U,
                               todo_.byte()};
        smcd::publish_mark(side, published, added);
        break;
      }
      case 7: side.marks_published = todo_.number<std::uint32_t>(); break;
      case 8: side.marks_taken = todo_.number<std::uint32_t>(); break;
      case 9: side.marks_taken = ours().state().sending.marks + todo_.byte() % 6 - 5; break;
      case 10:
        side.flags = todo_.byte();
        if (todo_.byte() % 2 == 0) {
          side.left_at = (ours().state().sending.offset() - todo_.byte()) << 1 | todo_.byte() % 2U;
        }
        break;
      case 11:
        side.waiters[todo_.byte() % dibs::max_waiters] = todo_.number<std::uint64_t>();
        break;
      case 12:
        // A device that is there, any queue and bit of it.
        side.waiters[0] = dibs::waiter::from_word(todo_.number<std::uint32_t>() |
                                                  std::uint64_t{todo_.byte()} % 4 << 48 |
                                                  std::uint64_t{todo_.byte()} % 2 << 32)
                              .word();
        break;
      case 13:
        static_cast<void>(peer_.tcp.hidden_send(std::as_bytes(todo_.take(todo_.byte()))));
        break;
      case 14: fate(todo_.byte()); break;
      case 15:
        // An honest one meanwhile.
        if (what / 16 % 2 == 0) {
          static_cast<void>(peer_.read(some()));
        } else {
          static_cast<void>(peer_.write(some()));
        }
        break;
    }
  }

  void fate(unsigned what) {
    switch (what % 8) {
      case 0: peer_.tcp.shutdown_write(); break;
      case 1: peer_.tcp.reset(); break;
      case 2: peer_.vanish(); break;
      case 3: peer_.shutdown_write(); break;
      case 4: peer_.record().state.fetch_or(dibs::client_gone); break;
      case 5: peer_.record().state.fetch_or(dibs::server_gone); break;
      case 6: peer_.record().state = todo_.number<std::uint64_t>(); break;
      case 7: {
        peer_.side().token = todo_.number<std::uint64_t>();
        peer_.side().device.bytes[0] ^= todo_.byte();
        break;
      }
    }
    if (what % 8 >= 4) is_record_damaged_ = true;
  }

  support::two_ends& ends_;
  fuzz::script& todo_;
  end_point& victim_;
  end_point& peer_;
  smcd::stack& peer_stack_;
  std::vector<std::byte> buffer_;
  bool is_patient_ = false;
  bool is_closed_ = false;
  bool is_record_damaged_ = false;
};

// Both ends have met, and the handshake has begun.
bool join(support::two_ends& ends) {
  std::byte one{};
  static_cast<void>(ends.client.write("?"));
  static_cast<void>(ends.server.read({&one, 1}));
  ends.client.connection.advance(ends.client.tcp);
  ends.server.connection.advance(ends.server.tcp);
  ends.client.connection.advance(ends.client.tcp);
  return ends.server.stage() == smcd::end_stage::joined &&
         ends.client.stage() == smcd::end_stage::handshake;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static std::unique_ptr<support::two_stacks> stacks;
  static unsigned damaged = 0;
  if (stacks == nullptr) stacks = std::make_unique<support::two_stacks>();
  fuzz::script todo(data, size);
  const std::uint8_t how = todo.byte();
  {
    support::two_ends ends(*stacks);
    // What earlier inputs did is no harm to this connection.
    expect(how % 4 == 3 ? join(ends) : ends.establish());
    if (battle(ends, todo, how / 4 % 2 == 0).run()) ++damaged;
  }
  // Their records are lost until the devices are.
  if (damaged == 256) {
    stacks.reset();
    damaged = 0;
  }
  return 0;
}
