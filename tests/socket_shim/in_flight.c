/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes that TCP still holds back while those behind them stand in memory
 * already: an epoll set tells of the latter as well, once the former were read. */
#include "ends.h"

#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>

enum { PART = 5, LARGE = 100, LONGEST_START = 24 };

static void cork(struct end of, int is_on) {
  CHECK(end_set(of, IPPROTO_TCP, TCP_CORK, is_on) == 0);
}

/* One read of so much at most for each event, as many programs do. */
static void read_by_events(int set, int fd, size_t most, size_t size, uint64_t at) {
  while (size > 0) {
    struct epoll_event event;
    char bytes[LARGE];
    CHECK(epoll_wait(set, &event, 1, 10000) == 1 && event.events == EPOLLIN);
    const ssize_t got = recv(fd, bytes, most, MSG_DONTWAIT);
    CHECK(got > 0 && (size_t)got <= size);
    verify(bytes, (size_t)got, 2, at);
    at += (uint64_t)got;
    size -= (size_t)got;
  }
}

/* The other end's direction may leave TCP between the two parts, after so many turns. */
static void hold_back(enum pairing how, uint32_t events, size_t most, int turns) {
  const struct pair p = make_pair(how, V4);
  uint64_t at = 0;
  for (int turn = 0; turn < turns; ++turn, at += 1) {
    end_put(p.ours, 1, 1, at);
    end_take(p.theirs, 1, 1, at);
    end_put(p.theirs, 1, 2, at);
    end_take(p.ours, 1, 2, at);
  }
  const int set = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event wanted = {.events = events, .data.fd = p.ours.fd};
  CHECK(set >= 0 && epoll_ctl(set, EPOLL_CTL_ADD, p.ours.fd, &wanted) == 0);
  cork(p.theirs, 1);
  end_put(p.theirs, PART, 2, at);
  end_put(p.ours, 1, 1, at);
  end_take(p.theirs, 1, 1, at);
  end_put(p.theirs, PART, 2, at + PART);
  struct epoll_event event;
  CHECK(epoll_wait(set, &event, 1, 0) >= 0);
  /* What is there already, to the end. */
  uint64_t done = 0;
  char bytes[LARGE];
  for (ssize_t n = 0; (n = recv(p.ours.fd, bytes, sizeof bytes, MSG_DONTWAIT)) > 0;) {
    verify(bytes, (size_t)n, 2, at + done);
    done += (uint64_t)n;
  }
  cork(p.theirs, 0);
  read_by_events(set, p.ours.fd, most, 2 * PART - done, at + done);
  close(set);
  close_pair(p);
}

int main(void) {
  signal(SIGPIPE, SIG_IGN);
  for (int how = SELF; how <= AS_SERVER; ++how) {
    for (int turns = 0; turns < LONGEST_START; ++turns) {
      doing("pairing %d, %d turns, level", how, turns);
      hold_back((enum pairing)how, EPOLLIN, PART, turns);
      doing("pairing %d, %d turns, edge", how, turns);
      hold_back((enum pairing)how, EPOLLIN | EPOLLET, LARGE, turns);
    }
    printf("held back %d: ok\n", how);
  }
  return 0;
}
