/* SPDX-License-Identifier: Apache-2.0 */
/* Signal handlers that leave a call by a jump, or use the socket that their
 * own thread is using at that moment. */
#include "ends.h"

#include <setjmp.h>
#include <signal.h>
#include <sys/time.h>

static void handle(int flags, void (*with)(int)) {
  struct sigaction how = {.sa_handler = with, .sa_flags = flags};
  CHECK(sigaction(SIGALRM, &how, NULL) == 0);
}
static void alarm_in_us(int us) {
  const struct itimerval when = {{0, 0}, {0, us}};
  CHECK(setitimer(ITIMER_REAL, &when, NULL) == 0);
}

static sigjmp_buf out;
static void jump(int number) {
  (void)number;
  siglongjmp(out, 1);
}

/* The old way to limit a wait: leave the call by a jump, and go on. */
static void jump_out_of_waits(struct pair p) {
  handle(0, jump);
  char byte;
  for (volatile int i = 0; i < 12; ++i) {
    if (sigsetjmp(out, 1) == 0) {
      alarm_in_us(1000 * (5 + i % 4));
      struct pollfd one = {p.ours.fd, POLLIN, 0};
      if (i % 2 == 0) {
        CHECK(recv(p.ours.fd, &byte, 1, 0) == -2); /* never comes back */
      } else {
        CHECK(poll(&one, 1, -1) == -2);
      }
    }
    end_put(p.theirs, 1000, 1, (uint64_t)i * 1000);
    end_take(p.ours, 1000, 1, (uint64_t)i * 1000);
    end_put(p.ours, 1000, 2, (uint64_t)i * 1000);
    end_take(p.theirs, 1000, 2, (uint64_t)i * 1000);
  }
  close_pair(p);
}

/* Out of calls that move bytes: what they moved is lost to us, as ever; but
 * another connection of the process is none the worse. */
static void jump_out_of_transfers(struct pair p) {
  handle(0, jump);
  const struct pair other = make_pair(SELF, V4);
  warm_up(other);
  static char piece[3000];
  volatile int jumps = 0;
  const uint64_t until = now_ms() + 400;
  while (now_ms() < until) {
    if (sigsetjmp(out, 1) == 0) {
      alarm_in_us(1 + jumps * 37 % 900);
      for (;;) {
        send(p.ours.fd, piece, sizeof piece, MSG_DONTWAIT);
        recv(p.ours.fd, piece, sizeof piece, MSG_DONTWAIT);
        if (p.theirs.by == NULL) {
          recv(p.theirs.fd, piece, sizeof piece, MSG_DONTWAIT);
          send(p.theirs.fd, piece, sizeof piece, MSG_DONTWAIT);
        }
      }
    }
    ++jumps;
  }
  alarm_in_us(0);
  CHECK(jumps > (is_rough() ? 0 : 20));
  warm_up(other);
  close_pair(other);
  const struct pair fresh = make_pair(SELF, V4);
  warm_up(fresh);
  close_pair(fresh);
  close_pair(p);
}

static int handler_fd;
static volatile sig_atomic_t handler_sent;
static void send_from_handler(int number) {
  (void)number;
  const int saved = errno;
  if (send(handler_fd, "#", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1) ++handler_sent;
  errno = saved;
}

/* A handler writes to the socket that its thread is writing to: its byte comes
 * somewhere between, none is lost and none comes twice. */
static void handler_writes(struct pair p) {
  if (p.theirs.by != NULL) {
    close_pair(p);
    return;
  }
  handler_fd = p.ours.fd;
  handler_sent = 0;
  handle(SA_RESTART, send_from_handler);
  enum { SIZE = 4000, ROUNDS = 2000 };
  static char piece[SIZE];
  static char got[SIZE * 2];
  uint64_t put = 0;
  uint64_t taken = 0;
  uint64_t marks = 0;
  for (int round = 0; round < ROUNDS; ++round) {
    /* One shot at a moment of this round: a steady fire starves the kernel's
     * own receive. */
    alarm_in_us(1 + round * 7 % 50);
    for (int i = 0; i < SIZE; ++i) piece[i] = (char)('a' + (put + (uint64_t)i) % 20);
    for (size_t done = 0; done < SIZE;) {
      const ssize_t n = send(p.ours.fd, piece + done, SIZE - done, 0);
      if (n < 0 && errno == EINTR) continue;
      CHECK(n > 0);
      done += (size_t)n;
    }
    put += SIZE;
    while (taken < put) {
      const ssize_t n = recv(p.theirs.fd, got, sizeof got, 0);
      if (n < 0 && errno == EINTR) continue;
      CHECK(n > 0);
      for (ssize_t i = 0; i < n; ++i) {
        if (got[i] == '#') {
          ++marks;
        } else {
          CHECK(got[i] == (char)('a' + taken % 20));
          ++taken;
        }
      }
    }
  }
  alarm_in_us(0);
  while (marks < (uint64_t)handler_sent) {
    CHECK(recv(p.theirs.fd, got, 1, 0) == 1 && got[0] == '#');
    ++marks;
  }
  CHECK(recv(p.theirs.fd, got, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN);
  CHECK(handler_sent > 0);
  close_pair(p);
}

/* A handler reads what its thread reads. Each byte comes once. */
static volatile uint64_t handler_read;
static void read_in_handler(int number) {
  (void)number;
  const int saved = errno;
  char bytes[64];
  const ssize_t n = recv(handler_fd, bytes, sizeof bytes, MSG_DONTWAIT);
  if (n > 0) handler_read += (uint64_t)n;
  errno = saved;
}

static void handler_reads(struct pair p) {
  if (p.theirs.by == NULL) {
    close_pair(p);
    return;
  }
  enum { SIZE = 20 << 20 };
  handler_fd = p.ours.fd;
  handler_read = 0;
  handle(SA_RESTART, read_in_handler);
  begin_put(p.theirs, SIZE, 1, 0);
  static char got[10000];
  uint64_t taken = 0;
  for (int shot = 0; taken + handler_read < SIZE; ++shot) {
    if (shot % 8 == 0) alarm_in_us(1 + shot * 7 % 50);
    const ssize_t n = recv(p.ours.fd, got, sizeof got, MSG_DONTWAIT);
    if (n > 0) {
      taken += (uint64_t)n;
    } else {
      CHECK(errno == EAGAIN || errno == EINTR);
    }
  }
  alarm_in_us(0);
  finish_put(p.theirs);
  CHECK(taken + handler_read == SIZE);
  close_pair(p);
}

int main(int count, char** arguments) {
  const char* const what = count > 1 ? arguments[1] : "jumps";
  if (strcmp(what, "jumps") == 0) {
    run_each("jump out of waits", jump_out_of_waits);
    run_each("jump out of transfers", jump_out_of_transfers);
  } else if (strcmp(what, "writes") == 0) {
    run_with("handler writes", SELF, handler_writes);
  } else {
    run_with("handler reads", AS_CLIENT, handler_reads);
    run_with("handler reads", AS_SERVER, handler_reads);
  }
  return 0;
}
