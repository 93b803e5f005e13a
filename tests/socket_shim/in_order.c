/* SPDX-License-Identifier: Apache-2.0 */
/* epoll: what a peer wrote first is told first, as on one machine programs take it
 * for granted. */
#include "ends.h"

#include <sys/epoll.h>

static int new_set(void) {
  const int set = epoll_create1(EPOLL_CLOEXEC);
  CHECK(set >= 0);
  return set;
}

static void add(int set, struct end of, uint64_t data) {
  struct epoll_event event = {.events = EPOLLIN, .data.u64 = data};
  CHECK(epoll_ctl(set, EPOLL_CTL_ADD, of.fd, &event) == 0);
}

static void one_event(int set, uint64_t data) {
  struct epoll_event events[4];
  CHECK(epoll_wait(set, events, 4, 5000) == 1);
  CHECK(events[0].data.u64 == data && events[0].events == EPOLLIN);
}

static void no_event(int set) {
  struct epoll_event event;
  CHECK(epoll_wait(set, &event, 1, 0) == 0);
  CHECK(epoll_wait(set, &event, 1, 3) == 0);
}

/* Who writes to one connection and then to another finds the first told first, on
 * one machine; also if one has yet to leave TCP. */
static void in_order(struct pair p) {
  enum { COUNT = 7, ROUNDS = 5 };
  close_pair(p);
  if (is_rough()) return;
  const int set = new_set();
  struct pair many[COUNT];
  for (int i = 0; i < COUNT; ++i) {
    many[i] = make_pair(SELF, V4);
    if (i > 0) warm_up(many[i]);
    add(set, many[i].ours, (uint64_t)i);
  }
  no_event(set);
  for (int round = 0; round < ROUNDS; ++round) {
    /* The young one first, then the others, each time in another order. */
    int order[COUNT] = {0};
    for (int i = 1; i < COUNT; ++i) order[i] = 1 + (i * 5 + round) % (COUNT - 1);
    for (int i = 0; i < COUNT; ++i) end_put(many[order[i]].theirs, 1, 1, 0);
    struct epoll_event events[COUNT];
    CHECK(epoll_wait(set, events, COUNT, 5000) == COUNT);
    for (int i = 0; i < COUNT; ++i) CHECK(events[i].data.u64 == (uint64_t)order[i]);
    for (int i = 0; i < COUNT; ++i) end_take(many[i].ours, 1, 1, 0);
    no_event(set);
  }
  for (int i = 0; i < COUNT; ++i) close_pair(many[i]);
  close(set);
}

/* Writes to a connection at a step of its way from TCP, then to one that has come
 * far. Which is told first? */
static int told_first(int set, struct pair old, enum pairing how, int step) {
  struct pair young = make_pair(how, V4);
  add(set, young.ours, 1);
  for (int i = 0; i < step; ++i) {
    end_put(young.theirs, 1, 1, 0);
    one_event(set, 1);
    end_take(young.ours, 1, 1, 0);
    end_put(young.ours, 1, 1, 0);
    /* It waits again while the peer reads, which may bring the peer further. */
    no_event(set);
    end_take(young.theirs, 1, 1, 0);
  }
  end_put(young.theirs, 1, 1, 0);
  end_put(old.theirs, 1, 1, 0);
  struct epoll_event events[2];
  CHECK(epoll_wait(set, events, 2, 5000) == 2);
  end_take(old.ours, 1, 1, 0);
  end_take(young.ours, 1, 1, 0);
  no_event(set);
  close_pair(young);
  return (int)events[0].data.u64;
}

static void on_the_way(struct pair old) {
  enum { STEPS = 12 };
  const int is_other = old.theirs.by != NULL;
  warm_up(old);
  const int set = new_set();
  add(set, old.ours, 0);
  for (int i = 0; i < 2 * STEPS && !is_rough(); ++i) {
    const enum pairing how = !is_other ? SELF : i % 2 ? AS_CLIENT : AS_SERVER;
    doing("step %d, as %d", i / 2, (int)how);
    CHECK(told_first(set, old, how, i / 2) == 1);
  }
  close(set);
  close_pair(old);
}

/* And where so much was sent that the rest had to take TCP: that one stays ready all
 * the time, and is told before one that is written to again and again. */
static void overflown(struct pair full) {
  enum { SENT = 600000, PIECE = 32, FROM = 190 << 10, TO = 258 << 10 }; /* where the ring ends */
  struct pair other = make_pair(AS_SERVER, V4);
  warm_up(other);
  const int set = new_set();
  begin_put(full.theirs, SENT, 1, 0);
  finish_put(full.theirs);
  add(set, full.ours, 1);
  add(set, other.ours, 0);
  one_event(set, 1);
  end_take(full.ours, FROM, 1, 0);
  for (uint64_t at = FROM; at < TO && !is_rough(); at += PIECE) {
    doing("at %d", (int)at);
    struct epoll_event events[2];
    end_put(other.theirs, 1, 1, 0);
    CHECK(epoll_wait(set, events, 2, 5000) == 2);
    CHECK(events[0].data.u64 == 1);
    end_take(other.ours, 1, 1, 0);
    end_take(full.ours, PIECE, 1, at);
  }
  close(set);
  close_pair(full);
  close_pair(other);
}

int main(void) {
  run_with("in order", SELF, in_order);
  run_each("on the way", on_the_way);
  run_with("overflown", AS_SERVER, overflown);
  return 0;
}
