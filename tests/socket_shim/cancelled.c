/* SPDX-License-Identifier: Apache-2.0 */
/* Threads that are cancelled in the middle of a call. They end there, their
 * clean-up runs, and the connection is as usable as it was. */
#include "ends.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/select.h>

enum way { RECV, READ_ALL, SEND, POLL, SELECT, EPOLL, WAYS };

struct sleeper {
  struct pair pair;
  enum way way;
  int set;
  volatile int is_cleaned;
};

static void clean(void* of) { ((struct sleeper*)of)->is_cleaned = 1; }

/* Nothing to read comes, and nothing that is written gets read. */
static void* sleep_for_ever(void* of) {
  struct sleeper* const s = of;
  static char bytes[1 << 20];
  const int fd = s->pair.ours.fd;
  pthread_cleanup_push(clean, s);
  for (;;) {
    switch (s->way) {
      case RECV: CHECK(recv(fd, bytes, sizeof bytes, 0) > 0); break;
      case READ_ALL: CHECK(recv(fd, bytes, sizeof bytes, MSG_WAITALL) > 0); break;
      case SEND: CHECK(send(fd, bytes, sizeof bytes, 0) > 0); break;
      case POLL: {
        struct pollfd one = {fd, POLLIN, 0};
        CHECK(poll(&one, 1, -1) >= 0);
        break;
      }
      case SELECT: {
        fd_set in;
        FD_ZERO(&in);
        FD_SET(fd, &in);
        CHECK(select(fd + 1, &in, NULL, NULL, NULL) >= 0);
        break;
      }
      default: {
        struct epoll_event event;
        CHECK(epoll_wait(s->set, &event, 1, -1) >= 0);
      }
    }
  }
  pthread_cleanup_pop(1);
  return NULL;
}

static void scene(struct pair p) {
  for (int way = 0; way < WAYS; ++way) {
    doing("way %d", way);
    struct sleeper s = {p, (enum way)way, -1, 0};
    if (way == SEND) continue; /* at last: the connection is full after it */
    struct epoll_event wanted = {.events = EPOLLIN};
    s.set = epoll_create1(EPOLL_CLOEXEC);
    CHECK(s.set >= 0);
    if (way == EPOLL) CHECK(epoll_ctl(s.set, EPOLL_CTL_ADD, p.ours.fd, &wanted) == 0);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, sleep_for_ever, &s) == 0);
    pause_ms(5); /* most often asleep by now; it must not matter */
    CHECK(pthread_cancel(thread) == 0);
    void* result = NULL;
    CHECK(pthread_join(thread, &result) == 0);
    CHECK(result == PTHREAD_CANCELED && s.is_cleaned == 1);
    CHECK(close(s.set) == 0);
    for (uint64_t at = 0; at < 5000; at += 1000) {
      end_put(p.ours, 1000, 1, at);
      end_take(p.theirs, 1000, 1, at);
      end_put(p.theirs, 1000, 2, at);
      end_take(p.ours, 1000, 2, at);
    }
  }
  struct sleeper s = {p, SEND, -1, 0};
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, sleep_for_ever, &s) == 0);
  while (poll_one(p.ours.fd, POLLOUT, 0) == POLLOUT) pause_ms(1);
  CHECK(pthread_cancel(thread) == 0);
  CHECK(pthread_join(thread, NULL) == 0);
  CHECK(s.is_cleaned == 1);
  end_put(p.theirs, 1000, 2, 0);
  end_take(p.ours, 1000, 2, 0);
  close_pair(p);
}

int main(void) {
  run_each("cancelled", scene);
  return 0;
}
