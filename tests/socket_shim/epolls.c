/* SPDX-License-Identifier: Apache-2.0 */
/* epoll: every mode, what is told when, and who gets it. */
#include "ends.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

static int new_set(void) {
  const int set = epoll_create1(EPOLL_CLOEXEC);
  CHECK(set >= 0);
  return set;
}

static void ctl(int set, int what, int fd, uint32_t events, uint64_t data) {
  struct epoll_event event = {.events = events, .data.u64 = data};
  CHECK(epoll_ctl(set, what, fd, &event) == 0);
}

/* Waits for exactly one event, which must carry that data. Gives its bits. */
static uint32_t one_event(int set, uint64_t data) {
  struct epoll_event events[4];
  CHECK(epoll_wait(set, events, 4, 5000) == 1);
  CHECK(events[0].data.u64 == data);
  return events[0].events;
}
static void no_event(int set) {
  struct epoll_event event;
  CHECK(epoll_wait(set, &event, 1, 0) == 0);
  CHECK(epoll_wait(set, &event, 1, 3) == 0);
}
/* An edge may be told once more than needed while a connection is young, but
 * only for what is true. */
static void no_edge(int set, struct end of) {
  struct epoll_event event;
  for (int i = 0; i < (is_rough() ? 100 : 4); ++i) {
    if (epoll_wait(set, &event, 1, 3) == 0) return;
    const short told = is_rough() ? (short)(event.events & (POLLIN | POLLOUT)) : POLLIN;
    CHECK((!is_warm || is_rough()) && end_poll(of, told, 0) == told);
  }
  fail(__FILE__, __LINE__, "the edge ends");
}
/* Level-triggered sets repeat themselves: until the bits are these. */
static void await_bits(int set, uint64_t data, uint32_t wanted) {
  const uint64_t until = now_ms() + 5000;
  uint32_t seen = 0;
  while ((seen = one_event(set, data)) != wanted) {
    if (now_ms() > until) fprintf(stderr, "events %#x, not %#x\n", seen, wanted);
    CHECK(now_ms() < until);
  }
}
/* Edges may come in more than one event: collects until all bits were seen. */
static void await_edges(int set, uint64_t data, uint32_t wanted) {
  uint32_t seen = 0;
  while ((seen & wanted) != wanted) seen |= one_event(set, data);
}

static void put_and_arrive(struct pair p, size_t size, uint32_t seed, uint64_t at) {
  end_put(p.theirs, size, seed, at);
}

static void drain(struct pair p, size_t size, uint32_t seed, uint64_t at) {
  char byte;
  end_take(p.ours, size, seed, at);
  CHECK(end_recv(p.ours, &byte, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN);
}

/* Sends until there is no more room. `sent` is what was sent before; gives that and what it sent.
 */
static uint64_t fill_up(struct end to, uint64_t sent) {
  static char piece[65536];
  for (int is_full = 0; !is_full;) {
    fill(piece, sizeof piece, 9, sent);
    const ssize_t n = end_send(to, piece, sizeof piece, MSG_DONTWAIT);
    if (n > 0) {
      sent += (uint64_t)n;
    } else {
      CHECK(errno == EAGAIN);
      is_full = end_poll(to, POLLOUT, 100) == 0;
    }
  }
  return sent;
}

/* ---- one at a time ---------------------------------------------------------- */

static void level(struct pair p) {
  const int set = new_set();
  const uint64_t data = 0x123456789ABCDEF0;
  ctl(set, EPOLL_CTL_ADD, p.ours.fd, EPOLLIN, data);
  no_event(set);
  for (int i = 0; i < 50; ++i) {
    put_and_arrive(p, 100, 1, 0);
    CHECK(one_event(set, data) == EPOLLIN);
    CHECK(one_event(set, data) == EPOLLIN);
    end_take(p.ours, 40, 1, 0);
    CHECK(one_event(set, data) == EPOLLIN);
    end_take(p.ours, 60, 1, 40);
    struct epoll_event event;
    CHECK(epoll_wait(set, &event, 1, 0) == 0);
  }
  no_event(set);
  ctl(set, EPOLL_CTL_MOD, p.ours.fd, EPOLLIN | EPOLLOUT, 7);
  await_bits(set, 7, EPOLLOUT);
  put_and_arrive(p, 1, 1, 0);
  await_bits(set, 7, EPOLLIN | EPOLLOUT);
  ctl(set, EPOLL_CTL_MOD, p.ours.fd, 0, 7);
  no_event(set);
  ctl(set, EPOLL_CTL_MOD, p.ours.fd, EPOLLIN | EPOLLRDNORM, 8);
  await_bits(set, 8, EPOLLIN | EPOLLRDNORM);
  end_take(p.ours, 1, 1, 0);
  struct epoll_event event = {0};
  CHECK(epoll_ctl(set, EPOLL_CTL_ADD, p.ours.fd, &event) == -1 && errno == EEXIST);
  CHECK(epoll_ctl(set, EPOLL_CTL_DEL, p.ours.fd, NULL) == 0);
  CHECK(epoll_ctl(set, EPOLL_CTL_DEL, p.ours.fd, NULL) == -1 && errno == ENOENT);
  CHECK(epoll_ctl(set, EPOLL_CTL_MOD, p.ours.fd, &event) == -1 && errno == ENOENT);
  put_and_arrive(p, 1, 1, 0);
  no_event(set);
  ctl(set, EPOLL_CTL_ADD, p.ours.fd, EPOLLIN, 9);
  CHECK(one_event(set, 9) == EPOLLIN);
  close(set);
  drain(p, 1, 1, 0);
  close_pair(p);
}

/* As event loops do that take a socket out with every message, and as they should not. */
static void in_and_out(struct pair p) {
  const int set = new_set();
  struct epoll_event event = {.events = EPOLLIN};
  for (uint64_t i = 0; i < 50; ++i) {
    ctl(set, EPOLL_CTL_ADD, p.ours.fd, EPOLLOUT, i);
    await_bits(set, i, EPOLLOUT);
    CHECK(epoll_ctl(set, EPOLL_CTL_ADD, p.ours.fd, &event) == -1 && errno == EEXIST);
    CHECK(epoll_ctl(set, EPOLL_CTL_DEL, p.ours.fd, NULL) == 0);
    CHECK(epoll_ctl(set, EPOLL_CTL_DEL, p.ours.fd, NULL) == -1 && errno == ENOENT);
    CHECK(epoll_ctl(set, EPOLL_CTL_MOD, p.ours.fd, &event) == -1 && errno == ENOENT);
    ctl(set, EPOLL_CTL_ADD, p.ours.fd, EPOLLIN, ~i);
    if (i % 8 == 0) no_event(set);
    put_and_arrive(p, 10, 1, 10 * i);
    CHECK(one_event(set, ~i) == EPOLLIN);
    CHECK(epoll_ctl(set, EPOLL_CTL_DEL, p.ours.fd, NULL) == 0);
    if (i % 8 == 1) no_event(set);
    end_take(p.ours, 10, 1, 10 * i);
  }
  /* A child finds in its copy of the set what was put in, and no more. */
  ctl(set, EPOLL_CTL_ADD, p.ours.fd, EPOLLOUT, 1);
  await_bits(set, 1, EPOLLOUT);
  CHECK(epoll_ctl(set, EPOLL_CTL_DEL, p.ours.fd, NULL) == 0);
  put_and_arrive(p, 10, 1, 0);
  fflush(NULL);
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    no_event(set);
    ctl(set, EPOLL_CTL_ADD, p.ours.fd, EPOLLIN, 2);
    CHECK(one_event(set, 2) == EPOLLIN);
    CHECK(epoll_ctl(set, EPOLL_CTL_DEL, p.ours.fd, NULL) == 0);
    _exit(0);
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  no_event(set);
  end_take(p.ours, 10, 1, 0);
  /* The end comes while it is out, and while the set watches for room alone. */
  ctl(set, EPOLL_CTL_ADD, p.ours.fd, EPOLLIN, 3);
  CHECK(epoll_ctl(set, EPOLL_CTL_DEL, p.ours.fd, NULL) == 0);
  end_shutdown(p.theirs, SHUT_WR);
  no_event(set);
  ctl(set, EPOLL_CTL_ADD, p.ours.fd, EPOLLOUT, 4);
  await_bits(set, 4, EPOLLOUT);
  await_bits(set, 4, EPOLLOUT);
  ctl(set, EPOLL_CTL_MOD, p.ours.fd, EPOLLIN | EPOLLRDHUP, 5);
  await_bits(set, 5, EPOLLIN | EPOLLRDHUP);
  ctl(set, EPOLL_CTL_MOD, p.ours.fd, 0, 6);
  no_event(set);
  close(set);
  close_pair(p);
}

static void edge(struct pair p) {
  const int set = new_set();
  ctl(set, EPOLL_CTL_ADD, p.ours.fd, EPOLLIN | EPOLLET, 5);
  no_edge(set, p.ours);
  uint64_t at = 0;
  for (int i = 0; i < 12; ++i) {
    put_and_arrive(p, 100, 1, at);
    CHECK(one_event(set, 5) == EPOLLIN);
    no_edge(set, p.ours);
    /* New bytes while old ones are unread are told. */
    put_and_arrive(p, 100, 1, at + 100);
    CHECK(one_event(set, 5) == EPOLLIN);
    no_edge(set, p.ours);
    end_take(p.ours, 50, 1, at);
    no_edge(set, p.ours);
    /* A change of the registration tells what is there. */
    ctl(set, EPOLL_CTL_MOD, p.ours.fd, EPOLLIN | EPOLLET, 5);
    CHECK(one_event(set, 5) == EPOLLIN);
    no_edge(set, p.ours);
    drain(p, 150, 1, at + 50);
    no_edge(set, p.ours);
    at += 200;
  }
  close(set);
  close_pair(p);
}

static void edge_in_and_out(struct pair p) {
  const int set = new_set();
  ctl(set, EPOLL_CTL_ADD, p.ours.fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, 5);
  CHECK(one_event(set, 5) == EPOLLOUT);
  no_edge(set, p.ours);
  put_and_arrive(p, 10, 1, 0);
  await_edges(set, 5, EPOLLIN);
  drain(p, 10, 1, 0);
  const uint64_t sent = fill_up(p.ours, 0);
  struct epoll_event ignored;
  while (epoll_wait(set, &ignored, 1, 100) != 0) {
  }
  end_take(p.theirs, sent, 9, 0);
  await_edges(set, 5, EPOLLOUT);
  end_put(p.ours, 10, 3, 0);
  end_take(p.theirs, 10, 3, 0);
  CHECK(end_shutdown(p.theirs, SHUT_WR) == 0);
  await_edges(set, 5, EPOLLIN | EPOLLRDHUP);
  char byte;
  CHECK(end_recv(p.ours, &byte, 1, MSG_DONTWAIT) == 0);
  close(set);
  close_pair(p);
}

static void oneshot(struct pair p) {
  const int set = new_set();
  ctl(set, EPOLL_CTL_ADD, p.ours.fd, EPOLLIN | EPOLLONESHOT, 5);
  for (uint64_t i = 0; i < 8; ++i) {
    put_and_arrive(p, 10, 1, i * 30);
    CHECK(one_event(set, 4 + (i == 0)) == EPOLLIN);
    no_event(set);
    put_and_arrive(p, 10, 1, i * 30 + 10);
    no_event(set);
    ctl(set, EPOLL_CTL_MOD, p.ours.fd, EPOLLIN | EPOLLONESHOT, 6);
    CHECK(one_event(set, 6) == EPOLLIN);
    drain(p, 20, 1, i * 30);
    put_and_arrive(p, 10, 1, i * 30 + 20);
    no_event(set);
    drain(p, 10, 1, i * 30 + 20);
    ctl(set, EPOLL_CTL_MOD, p.ours.fd, EPOLLIN | EPOLLONESHOT, 4);
    no_event(set);
  }
  close(set);
  close_pair(p);
}

static void out_after_full(struct pair p) {
  const int set = new_set();
  ctl(set, EPOLL_CTL_ADD, p.ours.fd, EPOLLOUT, 5);
  await_bits(set, 5, EPOLLOUT);
  for (int round = 0; round < 3; ++round) {
    /* The kernel may find more room a moment later, on any TCP connection. */
    struct epoll_event ignored;
    uint64_t sent = 0;
    int tries = 0;
    do {
      CHECK(++tries < 20);
      sent = fill_up(p.ours, sent);
    } while (epoll_wait(set, &ignored, 1, 0) != 0);
    no_event(set);
    end_take(p.theirs, sent, 9, 0);
    await_bits(set, 5, EPOLLOUT);
    end_put(p.ours, 1000, 3, 0);
    end_take(p.theirs, 1000, 3, 0);
  }
  close(set);
  close_pair(p);
}

static void endings(struct pair p) {
  const int set = new_set();
  char byte;
  ctl(set, EPOLL_CTL_ADD, p.ours.fd, EPOLLIN | EPOLLRDHUP, 5);
  put_and_arrive(p, 100, 1, 0);
  CHECK(end_shutdown(p.theirs, SHUT_WR) == 0);
  await_bits(set, 5, EPOLLIN | EPOLLRDHUP);
  end_take(p.ours, 100, 1, 0);
  await_bits(set, 5, EPOLLIN | EPOLLRDHUP);
  CHECK(end_recv(p.ours, &byte, 1, 0) == 0);
  await_bits(set, 5, EPOLLIN | EPOLLRDHUP);
  CHECK(end_shutdown(p.ours, SHUT_WR) == 0);
  await_bits(set, 5, EPOLLIN | EPOLLRDHUP | EPOLLHUP);
  ctl(set, EPOLL_CTL_MOD, p.ours.fd, 0, 5);
  CHECK(one_event(set, 5) == EPOLLHUP);
  CHECK(end_close(p.ours) == 0);
  no_event(set);
  CHECK(end_close(p.theirs) == 0);
  close(set);
}

/* Closed while in the set, and the number taken again. */
static void closed_inside(struct pair p) {
  const int set = new_set();
  ctl(set, EPOLL_CTL_ADD, p.ours.fd, EPOLLIN, 5);
  put_and_arrive(p, 10, 1, 0);
  CHECK(one_event(set, 5) == EPOLLIN);
  const int number = p.ours.fd;
  CHECK(end_close(p.ours) == 0);
  no_event(set);
  CHECK(end_close(p.theirs) == 0);
  struct pair next = make_pair(SELF, V4);
  if (next.ours.fd != number && next.theirs.fd != number) {
    CHECK(dup2(next.ours.fd, number) == number);
    CHECK(close(next.ours.fd) == 0);
    next.ours.fd = number;
  }
  if (next.theirs.fd == number) next = (struct pair){next.theirs, next.ours};
  ctl(set, EPOLL_CTL_ADD, number, EPOLLIN, 6);
  warm_up(next);
  put_and_arrive(next, 10, 1, 0);
  CHECK(one_event(set, 6) == EPOLLIN);
  struct epoll_event event = {0};
  CHECK(epoll_ctl(set, EPOLL_CTL_ADD, 12345, &event) == -1 && errno == EBADF);
  close_pair(next);
  close(set);
}

/* Registered before it is connected, as clients do. */
static void before_connect(struct pair p) {
  close_pair(p);
  struct sockaddr_storage at;
  socklen_t size;
  const int listener = listen_at(V4, &at, &size);
  const int set = new_set();
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  ctl(set, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLOUT | EPOLLET, 5);
  ctl(set, EPOLL_CTL_ADD, listener, EPOLLIN, 6);
  struct epoll_event events[4];
  while (epoll_wait(set, events, 4, 0) > 0) {
  }
  const int answer = connect(fd, (struct sockaddr*)&at, size);
  CHECK(answer == 0 || errno == EINPROGRESS);
  int other = -1;
  int is_writable = 0;
  while (other < 0 || !is_writable) {
    const int n = epoll_wait(set, events, 4, 5000);
    CHECK(n > 0);
    for (int i = 0; i < n; ++i) {
      if (events[i].data.u64 == 6) {
        other = accept(listener, NULL, NULL);
      } else {
        CHECK(events[i].data.u64 == 5);
        is_writable |= (events[i].events & EPOLLOUT) != 0;
      }
    }
  }
  CHECK(other >= 0);
  struct pair q = {{NULL, fd}, {NULL, other}};
  set_nonblocking(fd, 0);
  warm_up(q);
  while (epoll_wait(set, events, 4, 0) > 0) {
  }
  put_and_arrive(q, 10, 1, 0);
  await_edges(set, 5, EPOLLIN);
  drain(q, 10, 1, 0);
  close_pair(q);
  close(listener);
  close(set);
}

/* A set in a set, a set in poll. */
static void nested(struct pair p) {
  const int inner = new_set();
  const int outer = new_set();
  ctl(inner, EPOLL_CTL_ADD, p.ours.fd, EPOLLIN, 5);
  ctl(outer, EPOLL_CTL_ADD, inner, EPOLLIN, 6);
  no_event(outer);
  for (int i = 0; i < 20; ++i) {
    put_and_arrive(p, 10, 1, 0);
    CHECK(one_event(outer, 6) == EPOLLIN);
    CHECK(one_event(inner, 5) == EPOLLIN);
    drain(p, 10, 1, 0);
    no_event(outer);
  }
  close(outer);
  put_and_arrive(p, 10, 1, 0);
  CHECK(poll_one(inner, POLLIN, 5000) == POLLIN);
  drain(p, 10, 1, 0);
  CHECK(poll_one(inner, POLLIN, 20) == 0);
  close(inner);
  close_pair(p);
}

/* A member whose connection comes to stay on TCP is told of as before. */
static void kept_on_tcp(struct pair p) {
  static const uint32_t modes[] = {0, EPOLLET, EPOLLONESHOT};
  int sets[3];
  for (uint64_t i = 0; i < 3; ++i) {
    sets[i] = new_set();
    ctl(sets[i], EPOLL_CTL_ADD, p.ours.fd, EPOLLIN | modes[i], 10 + i);
    no_event(sets[i]);
  }
  CHECK(end_set(p.ours, SOL_SOCKET, SO_TIMESTAMP, 1) == 0);
  uint64_t at = 0;
  for (int round = 0; round < 4; ++round, at += 100) {
    put_and_arrive(p, 100, 6, at);
    for (uint64_t i = 0; i < 3; ++i) {
      CHECK(one_event(sets[i], 10 + i) == EPOLLIN);
      if (i == 0) CHECK(one_event(sets[i], 10 + i) == EPOLLIN);
      if (i == 1) no_edge(sets[i], p.ours);
      if (i == 2) no_event(sets[i]);
    }
    drain(p, 100, 6, at);
    no_event(sets[0]);
    ctl(sets[2], EPOLL_CTL_MOD, p.ours.fd, EPOLLIN | EPOLLONESHOT, 12);
    no_event(sets[2]);
  }
  ctl(sets[0], EPOLL_CTL_MOD, p.ours.fd, EPOLLOUT, 20);
  CHECK(one_event(sets[0], 20) == EPOLLOUT);
  struct epoll_event again = {.events = EPOLLIN};
  CHECK(epoll_ctl(sets[0], EPOLL_CTL_ADD, p.ours.fd, &again) == -1 && errno == EEXIST);
  ctl(sets[0], EPOLL_CTL_DEL, p.ours.fd, 0, 0);
  no_event(sets[0]);
  ctl(sets[0], EPOLL_CTL_ADD, p.ours.fd, EPOLLIN, 30);
  put_and_arrive(p, 100, 6, at);
  CHECK(one_event(sets[0], 30) == EPOLLIN);
  CHECK(one_event(sets[1], 11) == EPOLLIN);
  drain(p, 100, 6, at);
  CHECK(end_shutdown(p.theirs, SHUT_WR) == 0);
  await_bits(sets[0], 30, EPOLLIN);
  close_pair(p);
  no_event(sets[0]);
  for (int i = 0; i < 3; ++i) close(sets[i]);
}

static void exclusive(struct pair p) {
  const int set = new_set();
  ctl(set, EPOLL_CTL_ADD, p.ours.fd, EPOLLIN | EPOLLEXCLUSIVE, 5);
  put_and_arrive(p, 10, 1, 0);
  CHECK(one_event(set, 5) == EPOLLIN);
  drain(p, 10, 1, 0);
  no_event(set);
  struct epoll_event event = {.events = EPOLLIN};
  CHECK(epoll_ctl(set, EPOLL_CTL_MOD, p.ours.fd, &event) == -1 && errno == EINVAL);
  close(set);
  close_pair(p);
}

/* One socket in two sets, and under two numbers in one. */
static void twice(struct pair p) {
  const int a = new_set();
  const int b = new_set();
  const int copy = dup(p.ours.fd);
  CHECK(copy >= 0);
  ctl(a, EPOLL_CTL_ADD, p.ours.fd, EPOLLIN, 1);
  ctl(b, EPOLL_CTL_ADD, p.ours.fd, EPOLLIN, 2);
  ctl(b, EPOLL_CTL_ADD, copy, EPOLLIN, 3);
  put_and_arrive(p, 10, 1, 0);
  CHECK(one_event(a, 1) == EPOLLIN);
  struct epoll_event events[4];
  const uint64_t until = now_ms() + 5000;
  int n = 0;
  while ((n = epoll_wait(b, events, 4, 5000)) != 2) CHECK(now_ms() < until);
  CHECK(events[0].data.u64 + events[1].data.u64 == 5);
  /* One event at a time: each has its turn. */
  int seen = 0;
  for (int i = 0; i < 6; ++i) {
    CHECK(epoll_wait(b, events, 1, 5000) == 1);
    seen |= 1 << events[0].data.u64;
  }
  CHECK(seen == (1 << 2 | 1 << 3));
  drain(p, 10, 1, 0);
  no_event(a);
  no_event(b);
  CHECK(close(copy) == 0);
  close(a);
  close(b);
  close_pair(p);
}

/* One place for events, and bytes that nobody reads: others are told of, too. */
static void fair_to_all(struct pair p) {
  int told[2];
  CHECK(pipe(told) == 0 && write(told[1], "x", 1) == 1);
  const int set = new_set();
  ctl(set, EPOLL_CTL_ADD, p.ours.fd, EPOLLIN, 1);
  ctl(set, EPOLL_CTL_ADD, told[0], EPOLLIN, 2);
  put_and_arrive(p, 10, 1, 0);
  unsigned seen = 0;
  for (int i = 0; i < 100; ++i) {
    struct epoll_event event;
    CHECK(epoll_wait(set, &event, 1, 5000) == 1);
    seen |= (unsigned)event.data.u64;
  }
  CHECK(seen == 3);
  close(told[0]);
  close(told[1]);
  close(set);
  close_pair(p);
}

/* Many connections, few places for events: nobody starves. */
static void fair(struct pair p) {
  enum { COUNT = 50 };
  close_pair(p);
  const int set = new_set();
  struct pair many[COUNT];
  for (int i = 0; i < COUNT; ++i) {
    many[i] = make_pair(SELF, V4);
    warm_up(many[i]);
    ctl(set, EPOLL_CTL_ADD, many[i].ours.fd, EPOLLIN, (uint64_t)i);
  }
  for (int i = 0; i < COUNT; ++i) end_put(many[i].theirs, 5, 1, 0);
  int seen[COUNT] = {0};
  int left = COUNT;
  const uint64_t until = now_ms() + 5000;
  while (left > 0) {
    struct epoll_event events[3];
    const int n = epoll_wait(set, events, 3, 5000);
    CHECK(n > 0 && now_ms() < until);
    for (int i = 0; i < n; ++i) left -= seen[events[i].data.u64]++ == 0;
  }
  for (int i = 0; i < COUNT; ++i) close_pair(many[i]);
  no_event(set);
  close(set);
}

/* ---- threads and processes -------------------------------------------------- */

struct team {
  int set;
  struct pair* pairs;
  atomic_int left;
  atomic_ullong bytes;
};

static void* work(void* argument) {
  struct team* const t = argument;
  static _Thread_local char bytes[3000];
  while (atomic_load(&t->left) > 0) {
    struct epoll_event event;
    const int n = epoll_wait(t->set, &event, 1, 10);
    CHECK(n >= 0);
    if (n == 0) continue;
    const int fd = t->pairs[event.data.u64].ours.fd;
    for (;;) {
      const ssize_t got = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
      if (got > 0) {
        atomic_fetch_add(&t->bytes, (unsigned long long)got);
        continue;
      }
      if (got == 0) {
        ctl(t->set, EPOLL_CTL_DEL, fd, 0, 0);
        atomic_fetch_sub(&t->left, 1);
      } else {
        CHECK(errno == EAGAIN);
        ctl(t->set, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLONESHOT, event.data.u64);
      }
      break;
    }
  }
  return NULL;
}

/* Two threads wait on one set; each connection is served by one at a time. */
static void two_threads(struct pair p) {
  enum { COUNT = 16, SIZE = 300000 };
  static struct pair pairs[COUNT];
  close_pair(p);
  struct team t = {.set = new_set(), .pairs = pairs};
  atomic_store(&t.left, COUNT);
  for (int i = 0; i < COUNT; ++i) {
    pairs[i] = make_pair(AS_CLIENT, V4);
    if (i % 4 != 0) warm_up(pairs[i]);
    ctl(t.set, EPOLL_CTL_ADD, pairs[i].ours.fd, EPOLLIN | EPOLLONESHOT, (uint64_t)i);
  }
  pthread_t threads[2];
  for (int i = 0; i < 2; ++i) CHECK(pthread_create(&threads[i], NULL, work, &t) == 0);
  for (uint64_t at = 0; at < SIZE; at += SIZE / 10) {
    for (int i = 0; i < COUNT; ++i) end_put(pairs[i].theirs, SIZE / 10, 1, at);
  }
  for (int i = 0; i < COUNT; ++i) CHECK(end_shutdown(pairs[i].theirs, SHUT_WR) == 0);
  for (int i = 0; i < 2; ++i) CHECK(pthread_join(threads[i], NULL) == 0);
  CHECK(t.bytes == (unsigned long long)COUNT * SIZE);
  for (int i = 0; i < COUNT; ++i) close_pair(pairs[i]);
  close(t.set);
}

/* Two threads wait on one set: each is told of no more than it has room for,
 * and of everything that stays true. */
struct looker {
  int set;
  int room;
};
static void* look_often(void* argument) {
  enum { COUNT = 16, LOOKS = 5000 };
  const struct looker* how = argument;
  unsigned seen = 0;
  for (int i = 0; i < LOOKS; ++i) {
    struct epoll_event events[COUNT];
    memset(events, 0x5A, sizeof events);
    const int n = epoll_wait(how->set, events, how->room, 5000);
    CHECK(n > 0 && n <= how->room);
    for (int at = 0; at < n; ++at) {
      CHECK(events[at].events == EPOLLIN && events[at].data.u64 < COUNT);
      seen |= 1u << events[at].data.u64;
    }
    for (int at = n; at < COUNT; ++at) CHECK(events[at].events == 0x5A5A5A5A);
  }
  CHECK(seen == (1u << COUNT) - 1);
  return NULL;
}
static void rooms(struct pair p) {
  enum { COUNT = 16 };
  close_pair(p);
  struct looker lookers[2] = {{new_set(), 1}, {0, COUNT}};
  lookers[1].set = lookers[0].set;
  struct pair many[COUNT];
  for (int i = 0; i < COUNT; ++i) {
    many[i] = make_pair(SELF, V4);
    if (is_warm) warm_up(many[i]);
    ctl(lookers[0].set, EPOLL_CTL_ADD, many[i].ours.fd, EPOLLIN, (uint64_t)i);
    put_and_arrive(many[i], 5, 1, 0);
  }
  pthread_t threads[2];
  for (int i = 0; i < 2; ++i) {
    CHECK(pthread_create(&threads[i], NULL, look_often, &lookers[i]) == 0);
  }
  for (int i = 0; i < 2; ++i) CHECK(pthread_join(threads[i], NULL) == 0);
  for (int i = 0; i < COUNT; ++i) {
    drain(many[i], 5, 1, 0);
    close_pair(many[i]);
  }
  close(lookers[0].set);
}

/* One thread waits, another one changes the set. */
static void* wait_forever(void* argument) {
  struct epoll_event event;
  CHECK(epoll_wait(*(int*)argument, &event, 1, 10000) == 1);
  CHECK(event.data.u64 == 77);
  return NULL;
}
static void added_while_waiting(struct pair p) {
  int set = new_set();
  const struct pair idle = make_pair(SELF, V4);
  warm_up(idle);
  ctl(set, EPOLL_CTL_ADD, idle.ours.fd, EPOLLIN, 1);
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, wait_forever, &set) == 0);
  pause_ms(20); /* let it sleep; right in any case */
  ctl(set, EPOLL_CTL_ADD, p.ours.fd, EPOLLIN, 77);
  put_and_arrive(p, 10, 1, 0);
  CHECK(pthread_join(thread, NULL) == 0);
  drain(p, 10, 1, 0);
  close_pair(idle);
  close(set);
  close_pair(p);
}

/* One thread waits; another one asks again for a stream that has bytes already. */
static void rearmed_while_waiting(struct pair p) {
  int set = new_set();
  const struct pair idle = make_pair(SELF, V4);
  warm_up(idle);
  ctl(set, EPOLL_CTL_ADD, idle.ours.fd, EPOLLIN, 1);
  ctl(set, EPOLL_CTL_ADD, p.ours.fd, EPOLLIN | EPOLLONESHOT, 77);
  put_and_arrive(p, 10, 1, 0);
  CHECK(one_event(set, 77) == EPOLLIN);
  for (int round = 0; round < 2; ++round) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, wait_forever, &set) == 0);
    pause_ms(20); /* let it sleep; right in any case */
    if (round == 0) {
      ctl(set, EPOLL_CTL_MOD, p.ours.fd, EPOLLIN | EPOLLONESHOT, 77);
    } else {
      CHECK(epoll_ctl(set, EPOLL_CTL_DEL, p.ours.fd, NULL) == 0);
      ctl(set, EPOLL_CTL_ADD, p.ours.fd, EPOLLIN | EPOLLONESHOT, 77);
    }
    CHECK(pthread_join(thread, NULL) == 0);
  }
  drain(p, 10, 1, 0);
  close_pair(idle);
  close(set);
  close_pair(p);
}

/* Two threads, one place for events each: who is told of one stream is busy
 * until the other one was told of another. */
struct busy {
  int set;
  int told[2];
};
static void* be_busy(void* argument) {
  struct busy* how = argument;
  struct epoll_event event;
  CHECK(epoll_wait(how->set, &event, 1, 10000) == 1);
  CHECK(write(how->told[1], &event.data.u64, sizeof event.data.u64) == sizeof event.data.u64);
  return NULL;
}
static void one_each(struct pair p) {
  const struct pair q = make_pair(SELF, V4);
  if (is_warm) warm_up(q);
  for (int round = 0; round < 8; ++round) {
    struct busy how = {.set = new_set()};
    CHECK(pipe(how.told) == 0);
    ctl(how.set, EPOLL_CTL_ADD, p.ours.fd, EPOLLIN | EPOLLONESHOT, 1);
    ctl(how.set, EPOLL_CTL_ADD, q.ours.fd, EPOLLIN | EPOLLONESHOT, 2);
    pthread_t threads[2];
    for (int i = 0; i < 2; ++i) CHECK(pthread_create(&threads[i], NULL, be_busy, &how) == 0);
    pause_ms(5); /* let them sleep; right in any case */
    put_and_arrive(p, 10, 1, 0);
    if (round % 2 == 0) pause_ms(5);
    put_and_arrive(q, 10, 1, 0);
    uint64_t seen[2];
    CHECK(read(how.told[0], &seen[0], sizeof seen[0]) == sizeof seen[0]);
    CHECK(read(how.told[0], &seen[1], sizeof seen[1]) == sizeof seen[1]);
    CHECK(seen[0] + seen[1] == 3);
    for (int i = 0; i < 2; ++i) CHECK(pthread_join(threads[i], NULL) == 0);
    drain(p, 10, 1, 0);
    drain(q, 10, 1, 0);
    close(how.told[0]);
    close(how.told[1]);
    close(how.set);
  }
  close_pair(q);
  close_pair(p);
}

/* Threads wait on a set that has held no connection before. */
static void first_while_waiting(struct pair p) {
  int set = new_set();
  int told[2];
  CHECK(pipe(told) == 0);
  ctl(set, EPOLL_CTL_ADD, told[0], EPOLLIN, 1);
  pthread_t threads[3];
  for (int i = 0; i < 3; ++i) CHECK(pthread_create(&threads[i], NULL, wait_forever, &set) == 0);
  pause_ms(20); /* let them sleep; right in any case */
  ctl(set, EPOLL_CTL_ADD, p.ours.fd, EPOLLIN, 77);
  pause_ms(1);
  put_and_arrive(p, 10, 1, 0);
  for (int i = 0; i < 3; ++i) CHECK(pthread_join(threads[i], NULL) == 0);
  drain(p, 10, 1, 0);
  no_event(set);
  close(told[0]);
  close(told[1]);
  close(set);
  close_pair(p);
}

/* Threads wait for bytes of a connection, which comes by its memory meanwhile. */
static void grown_while_waiting(struct pair p) {
  int set = new_set();
  ctl(set, EPOLL_CTL_ADD, p.ours.fd, EPOLLIN, 77);
  pthread_t threads[3];
  for (int i = 0; i < 3; ++i) CHECK(pthread_create(&threads[i], NULL, wait_forever, &set) == 0);
  pause_ms(5); /* let them sleep; right in any case */
  for (uint64_t at = 0; at < 10000; at += 100) {
    end_put(p.ours, 100, 1, at);
    end_take(p.theirs, 100, 1, at);
  }
  end_put(p.theirs, 10, 2, 0);
  for (int i = 0; i < 3; ++i) CHECK(pthread_join(threads[i], NULL) == 0);
  end_take(p.ours, 10, 2, 0);
  no_event(set);
  close(set);
  close_pair(p);
}

/* A set made before fork, with a connection made before fork: parent and child
 * wait on it, and one of them gets the byte. */
static void over_fork(struct pair p) {
  const int set = new_set();
  ctl(set, EPOLL_CTL_ADD, p.ours.fd, EPOLLIN, 5);
  int told[2];
  CHECK(pipe(told) == 0);
  for (int round = 0; round < 4; ++round) {
    fflush(NULL);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
      /* The child takes the first bytes, */
      CHECK(one_event(set, 5) == EPOLLIN);
      char bytes[10];
      CHECK(recv(p.ours.fd, bytes, 10, 0) == 10);
      verify(bytes, 10, 1, 0);
      CHECK(write(told[1], "x", 1) == 1);
      if (round % 2) exit(0);
      _exit(0);
    }
    put_and_arrive(p, 10, 1, 0);
    char byte;
    CHECK(read(told[0], &byte, 1) == 1);
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    /* and the parent all others. */
    no_event(set);
    put_and_arrive(p, 10, 2, 0);
    CHECK(one_event(set, 5) == EPOLLIN);
    drain(p, 10, 2, 0);
  }
  close(told[0]);
  close(told[1]);
  close(set);
  close_pair(p);
}

/* What is always true stands once in an answer, whatever the streams beside it do:
 * here one finds itself shared while a child looks at the set for the first time. */
static void told_once(struct pair p) {
  const int other = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
  for (int round = 0; round < 10; ++round) {
    const int set = new_set();
    ctl(set, EPOLL_CTL_ADD, other, EPOLLIN, 9);
    ctl(set, EPOLL_CTL_ADD, p.ours.fd, EPOLLIN, 5);
    fflush(NULL);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
      for (int i = 0; i < 10; ++i) CHECK(one_event(set, 9) == EPOLLIN);
      _exit(0);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    close(set);
  }
  close(other);
  close_pair(p);
}

/* A child adds connections of its own to a set that its parent also has. */
static void child_adds(struct pair p) {
  const int set = new_set();
  ctl(set, EPOLL_CTL_ADD, p.ours.fd, EPOLLIN, 5);
  fflush(NULL);
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    struct pair mine = make_pair(SELF, V4);
    warm_up(mine);
    ctl(set, EPOLL_CTL_ADD, mine.ours.fd, EPOLLIN, 6);
    end_put(mine.theirs, 10, 1, 0);
    CHECK(one_event(set, 6) == EPOLLIN);
    end_take(mine.ours, 10, 1, 0);
    CHECK(epoll_ctl(set, EPOLL_CTL_DEL, mine.ours.fd, NULL) == 0);
    close_pair(mine);
    _exit(0);
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  no_event(set);
  put_and_arrive(p, 10, 1, 0);
  CHECK(one_event(set, 5) == EPOLLIN);
  drain(p, 10, 1, 0);
  close(set);
  close_pair(p);
}

int main(int count, char** arguments) {
  if (count > 1 && strcmp(arguments[1], "shared") == 0) {
    run_with("two threads", SELF, two_threads);
    run_with("rooms", SELF, rooms);
    run_each("added while waiting", added_while_waiting);
    run_each("re-armed while waiting", rearmed_while_waiting);
    run_each("first while waiting", first_while_waiting);
    run_each("grown while waiting", grown_while_waiting);
    run_each("one each", one_each);
    run_each("over fork", over_fork);
    run_each("told once", told_once);
    run_each("child adds", child_adds);
    return 0;
  }
  run_each("level", level);
  run_each("in and out", in_and_out);
  run_each("edge", edge);
  run_each("edge in and out", edge_in_and_out);
  run_each("oneshot", oneshot);
  run_each("out after full", out_after_full);
  run_each("endings", endings);
  run_each("closed inside", closed_inside);
  run_with("before connect", SELF, before_connect);
  run_each("nested", nested);
  run_each("kept on tcp", kept_on_tcp);
  run_each("exclusive", exclusive);
  run_each("twice", twice);
  run_with("fair", SELF, fair);
  run_each("fair to all", fair_to_all);
  return 0;
}
