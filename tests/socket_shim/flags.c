/* SPDX-License-Identifier: Apache-2.0 */
/* What the flags of recv and send mean, and the counters of unread bytes. */
#include "ends.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>

static void peek(struct pair p) {
  char a[64];
  char b[64];
  end_put(p.theirs, 64, 1, 0);
  /* The bytes may be on their way in pieces: wait for all of them. */
  while (end_ioctl(p.ours, FIONREAD) < 64) CHECK(end_poll(p.ours, POLLIN, 5000) != 0);
  for (int i = 0; i < 3; ++i) {
    CHECK(end_recv(p.ours, a, 10, MSG_PEEK) == 10);
    verify(a, 10, 1, 0);
  }
  CHECK(end_recv(p.ours, a, 10, 0) == 10);
  verify(a, 10, 1, 0);
  CHECK(end_recv(p.ours, b, 64, MSG_PEEK) == 54);
  verify(b, 54, 1, 10);
  CHECK(end_recv(p.ours, b, 64, MSG_PEEK | MSG_DONTWAIT) == 54);
  CHECK(end_ioctl(p.ours, FIONREAD) == 54);
  end_take(p.ours, 54, 1, 10);
  CHECK(end_recv(p.ours, a, 1, MSG_PEEK | MSG_DONTWAIT) == -1 && errno == EAGAIN);
  CHECK(end_close(p.theirs) == 0);
  CHECK(end_recv(p.ours, a, 1, MSG_PEEK) == 0);
  CHECK(end_recv(p.ours, a, 1, MSG_PEEK | MSG_DONTWAIT) == 0);
  CHECK(end_recv(p.ours, a, 1, 0) == 0);
  CHECK(end_close(p.ours) == 0);
}

/* Nothing to read yet: peek blocks as recv does. */
static void peek_blocks(struct pair p) {
  char byte;
  if (p.theirs.by == NULL) {
    close_pair(p);
    return;
  }
  begin_recv(p.theirs, 1, MSG_PEEK);
  end_put(p.ours, 1, 5, 0);
  CHECK(finish_recv(p.theirs, &byte, 1) == 1);
  begin_recv(p.theirs, 1, 0);
  CHECK(finish_recv(p.theirs, &byte, 1) == 1);
  verify(&byte, 1, 5, 0);
  close_pair(p);
}

static void waitall(struct pair p) {
  static char all[300000];
  if (p.theirs.by != NULL) {
    begin_recv(p.theirs, sizeof all, MSG_WAITALL);
    for (size_t at = 0; at < sizeof all; at += 10000) end_put(p.ours, 10000, 2, at);
    CHECK(finish_recv(p.theirs, all, sizeof all) == sizeof all);
    verify(all, sizeof all, 2, 0);
    begin_put(p.theirs, sizeof all, 3, 0);
    CHECK(end_recv(p.ours, all, sizeof all, MSG_WAITALL) == sizeof all);
    verify(all, sizeof all, 3, 0);
    finish_put(p.theirs);
  }
  /* The end of the stream ends the wait. */
  end_put(p.theirs, 77, 4, 0);
  CHECK(end_shutdown(p.theirs, SHUT_WR) == 0);
  CHECK(end_recv(p.ours, all, sizeof all, MSG_WAITALL) == 77);
  verify(all, 77, 4, 0);
  CHECK(end_recv(p.ours, all, sizeof all, MSG_WAITALL) == 0);
  close_pair(p);
}

/* A descriptor that does not block wins over WAITALL. */
static void waitall_nonblocking(struct pair p) {
  char bytes[64];
  end_nonblocking(p.ours, 1);
  CHECK(end_recv(p.ours, bytes, 64, MSG_WAITALL) == -1 && errno == EAGAIN);
  end_put(p.theirs, 20, 6, 0);
  CHECK(end_poll(p.ours, POLLIN, 5000) == POLLIN);
  CHECK(end_recv(p.ours, bytes, 64, MSG_WAITALL) == 20);
  verify(bytes, 20, 6, 0);
  CHECK(end_recv(p.ours, bytes, 64, MSG_WAITALL | MSG_DONTWAIT) == -1 && errno == EAGAIN);
  close_pair(p);
}

static void dontwait(struct pair p) {
  char bytes[100];
  CHECK(end_recv(p.ours, bytes, 100, MSG_DONTWAIT) == -1 && errno == EAGAIN);
  /* Until nothing goes in any more; everything comes out. */
  static char piece[50000];
  uint64_t sent = 0;
  for (;;) {
    fill(piece, sizeof piece, 7, sent);
    const ssize_t n = end_send(p.ours, piece, sizeof piece, MSG_DONTWAIT);
    if (n < 0) {
      CHECK(errno == EAGAIN);
      if (end_poll(p.ours, POLLOUT, 100) == 0) break;
      continue;
    }
    CHECK(n > 0);
    sent += (uint64_t)n;
  }
  CHECK(sent >= 1 << 20);
  end_take(p.theirs, sent, 7, 0);
  CHECK(end_recv(p.theirs, bytes, 100, MSG_DONTWAIT) == -1 && errno == EAGAIN);
  CHECK(end_poll(p.ours, POLLOUT, 5000) == POLLOUT);
  end_put(p.ours, 100, 8, 0);
  end_take(p.theirs, 100, 8, 0);
  close_pair(p);
}

/* MSG_TRUNC throws the bytes away and counts them. */
static void trunc_bytes(struct pair p) {
  char bytes[16];
  memset(bytes, '#', sizeof bytes);
  end_put(p.theirs, 1000, 9, 0);
  while (end_ioctl(p.ours, FIONREAD) < 1000) CHECK(end_poll(p.ours, POLLIN, 5000) != 0);
  if (p.ours.by == NULL) {
    CHECK(recv(p.ours.fd, NULL, 10, MSG_TRUNC) == 10);
    for (ssize_t left = 590; left > 0;) {
      const ssize_t n = recv(p.ours.fd, NULL, (size_t)left, MSG_TRUNC);
      CHECK(n == left || (is_rough() && n > 0)); /* up to a change of lane */
      left -= n;
    }
  }
  end_take(p.ours, 400, 9, 600);
  close_pair(p);
}

/* Programs wait for that before they close. */
static void await_delivery(struct end from) {
  const uint64_t until = now_ms() + 5000;
  while (end_ioctl(from, SIOCOUTQ) != 0) {
    CHECK(now_ms() < until);
    pause_ms(1);
  }
}

static void counters(struct pair p) {
  CHECK(end_ioctl(p.ours, FIONREAD) == 0);
  await_delivery(p.ours);
  end_put(p.theirs, 5000, 1, 0);
  while (end_ioctl(p.ours, FIONREAD) != 5000) CHECK(end_poll(p.ours, POLLIN, 5000) != 0);
  end_take(p.ours, 1234, 1, 0);
  CHECK(end_ioctl(p.ours, FIONREAD) == 5000 - 1234);
  end_take(p.ours, 5000 - 1234, 1, 1234);
  CHECK(end_ioctl(p.ours, FIONREAD) == 0);
  /* Delivered is not read: the peer takes its time. */
  end_put(p.ours, 5000, 2, 0);
  await_delivery(p.ours);
  end_take(p.theirs, 5000, 2, 0);
  close_pair(p);
}

/* Nothing is asked for: nothing is done, and nobody waits. */
static void no_bytes(struct pair p) {
  char byte;
  CHECK(end_send(p.ours, "", 0, 0) == 0);
  CHECK(end_recv(p.ours, &byte, 0, MSG_DONTWAIT) <= 0);
  end_put(p.theirs, 1, 1, 0);
  CHECK(end_poll(p.ours, POLLIN, 5000) == POLLIN);
  CHECK(end_recv(p.ours, &byte, 0, 0) == 0);
  end_take(p.ours, 1, 1, 0);
  close_pair(p);
}

/* Not readable before there are so many bytes. */
static void low_water(struct pair p) {
  char bytes[100];
  CHECK(end_set(p.ours, SOL_SOCKET, SO_RCVLOWAT, 50) == 0);
  CHECK(end_get(p.ours, SOL_SOCKET, SO_RCVLOWAT) == 50);
  end_put(p.theirs, 49, 1, 0);
  CHECK(end_poll(p.ours, POLLIN, 50) == 0);
  end_put(p.theirs, 1, 1, 49);
  CHECK(end_poll(p.ours, POLLIN, 5000) == POLLIN);
  CHECK(end_recv(p.ours, bytes, 100, 0) == 50);
  verify(bytes, 50, 1, 0);
  close_pair(p);
}

/* One byte out of the row, and the stream goes on before and behind it. */
static void urgent(struct pair p) {
  char bytes[8];
  CHECK(end_send(p.theirs, "ab", 2, 0) == 2);
  CHECK(end_send(p.theirs, "!", 1, MSG_OOB) == 1);
  CHECK(end_send(p.theirs, "cd", 2, 0) == 2);
  CHECK(end_poll(p.ours, POLLPRI, 5000) == POLLPRI);
  CHECK(end_recv(p.ours, bytes, 1, MSG_OOB) == 1 && bytes[0] == '!');
  size_t have = 0;
  while (have < 4) {
    const ssize_t n = end_recv(p.ours, bytes + have, 8 - have, 0);
    CHECK(n > 0);
    have += (size_t)n;
  }
  CHECK(have == 4 && memcmp(bytes, "abcd", 4) == 0);
  close_pair(p);
}

static void bad_calls(struct pair p) {
  char byte;
  if (p.ours.by == NULL) {
    CHECK(send(-1, "x", 1, 0) == -1 && errno == EBADF);
    CHECK(recv(100000000, &byte, 1, 0) == -1 && errno == EBADF);
    CHECK(recv(0x7FFFFFFF, &byte, 1, 0) == -1 && errno == EBADF);
    CHECK(close(-5) == -1 && errno == EBADF);
    CHECK(shutdown(p.ours.fd, 77) == -1 && errno == EINVAL);
  }
  warm_up(p);
  close_pair(p);
}

int main(void) {
  run_each("peek", peek);
  run_each("peek blocks", peek_blocks);
  run_each("waitall", waitall);
  run_each("waitall nonblocking", waitall_nonblocking);
  run_each("dontwait", dontwait);
  run_each("trunc", trunc_bytes);
  run_each("counters", counters);
  run_each("no bytes", no_bytes);
  run_each("low water", low_water);
  run_each("urgent", urgent);
  run_each("bad calls", bad_calls);
  return 0;
}
