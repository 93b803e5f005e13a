/* SPDX-License-Identifier: Apache-2.0 */
/* How connections end, and what poll says of it. The values are those of the
 * kernel's TCP. */
#include "ends.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

enum { ALL = POLLIN | POLLOUT | POLLPRI | POLLRDHUP };

/* Polls until revents are these; fails when they are not in time. */
static void await_events(struct end of, short wanted) {
  const uint64_t until = now_ms() + 5000;
  short seen = 0;
  while ((seen = end_poll(of, ALL, 100)) != wanted) {
    if (now_ms() > until) {
      fprintf(stderr, "revents %#x, not %#x\n", (unsigned)seen, (unsigned)wanted);
      fail(__FILE__, __LINE__, "revents become what they should");
    }
  }
}

/* The result of sends until one fails: its errno. */
static int send_until_error(struct end from) {
  const uint64_t until = now_ms() + 5000;
  for (;;) {
    if (end_send(from, "x", 1, 0) < 0) return errno;
    CHECK(now_ms() < until);
    pause_ms(1);
  }
}

static void half_close_by_them(struct pair p) {
  char byte;
  await_events(p.ours, POLLOUT);
  end_put(p.theirs, 1000, 1, 0);
  CHECK(end_shutdown(p.theirs, SHUT_WR) == 0);
  await_events(p.ours, POLLIN | POLLOUT | POLLRDHUP);
  end_take(p.ours, 1000, 1, 0);
  for (int i = 0; i < 3; ++i) {
    CHECK(end_recv(p.ours, &byte, 1, 0) == 0);
    CHECK(end_recv(p.ours, &byte, 1, MSG_DONTWAIT) == 0);
  }
  await_events(p.ours, POLLIN | POLLOUT | POLLRDHUP);
  /* The other direction lives. */
  for (uint64_t at = 0; at < 200000; at += 20000) {
    end_put(p.ours, 20000, 2, at);
    end_take(p.theirs, 20000, 2, at);
  }
  CHECK(end_send(p.theirs, "x", 1, 0) == -1 && errno == EPIPE);
  CHECK(end_shutdown(p.ours, SHUT_WR) == 0);
  await_events(p.ours, POLLIN | POLLOUT | POLLRDHUP | POLLHUP);
  await_events(p.theirs, POLLIN | POLLOUT | POLLRDHUP | POLLHUP);
  CHECK(end_recv(p.theirs, &byte, 1, 0) == 0);
  CHECK(end_get(p.ours, SOL_SOCKET, SO_ERROR) == 0);
  close_pair(p);
}

static void half_close_by_us(struct pair p) {
  char byte;
  end_put(p.ours, 100000, 1, 0);
  CHECK(end_shutdown(p.ours, SHUT_WR) == 0);
  CHECK(end_send(p.ours, "x", 1, 0) == -1 && errno == EPIPE);
  await_events(p.ours, POLLOUT);
  end_take(p.theirs, 100000, 1, 0);
  CHECK(end_recv(p.theirs, &byte, 1, 0) == 0);
  end_put(p.theirs, 100000, 2, 0);
  CHECK(end_close(p.theirs) == 0);
  end_take(p.ours, 100000, 2, 0);
  CHECK(end_recv(p.ours, &byte, 1, 0) == 0);
  await_events(p.ours, POLLIN | POLLOUT | POLLRDHUP | POLLHUP);
  CHECK(end_close(p.ours) == 0);
}

static void shut_reading(struct pair p) {
  char byte;
  CHECK(end_shutdown(p.ours, SHUT_RD) == 0);
  await_events(p.ours, POLLIN | POLLOUT | POLLRDHUP);
  CHECK(end_recv(p.ours, &byte, 1, 0) == 0);
  end_put(p.ours, 1000, 1, 0);
  end_take(p.theirs, 1000, 1, 0);
  CHECK(end_shutdown(p.ours, SHUT_RDWR) == 0);
  CHECK(end_recv(p.theirs, &byte, 1, 0) == 0);
  close_pair(p);
}

/* A close that leaves bytes unread resets; what was sent before is read first. */
static void close_with_unread(struct pair p) {
  char byte;
  end_put(p.theirs, 500, 1, 0);
  end_put(p.ours, 500, 2, 0);
  end_take(p.ours, 100, 1, 0);
  while (end_ioctl(p.ours, FIONREAD) != 400) CHECK(end_poll(p.ours, POLLIN, 5000) != 0);
  CHECK(end_close(p.ours) == 0);
  const uint64_t until = now_ms() + 5000;
  while ((end_poll(p.theirs, ALL, 100) & POLLERR) == 0) CHECK(now_ms() < until);
  end_take(p.theirs, 500, 2, 0);
  CHECK(end_recv(p.theirs, &byte, 1, 0) == -1 && errno == ECONNRESET);
  CHECK(end_recv(p.theirs, &byte, 1, 0) == 0);
  CHECK(end_send(p.theirs, "x", 1, 0) == -1 && errno == EPIPE);
  CHECK(end_close(p.theirs) == 0);
}

/* The reset wakes a peer that waits. */
static void reset_wakes(struct pair p) {
  char byte;
  if (p.theirs.by == NULL) {
    close_pair(p);
    return;
  }
  begin_recv(p.theirs, 1, 0);
  const struct linger at_once = {1, 0};
  CHECK(setsockopt(p.ours.fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once) == 0);
  CHECK(end_close(p.ours) == 0);
  CHECK(finish_recv(p.theirs, &byte, 1) == -1 && errno == ECONNRESET);
  CHECK(end_close(p.theirs) == 0);
}

static void close_wakes(struct pair p) {
  char byte;
  if (p.theirs.by == NULL) {
    close_pair(p);
    return;
  }
  begin_recv(p.theirs, 1, 0);
  CHECK(end_close(p.ours) == 0);
  CHECK(finish_recv(p.theirs, &byte, 1) == 0);
  CHECK(end_close(p.theirs) == 0);
}

/* A writer that waits for room learns that nobody will make any. */
static void writer_learns(struct pair p) {
  if (p.theirs.by == NULL) {
    close_pair(p);
    return;
  }
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    signal(SIGPIPE, SIG_IGN);
    static char piece[100000];
    while (send(p.ours.fd, piece, sizeof piece, 0) > 0) {
    }
    _exit(errno == ECONNRESET || errno == EPIPE ? 0 : 1);
  }
  CHECK(end_close(p.ours) == 0);
  /* It has filled what there is to fill. */
  int last = -1;
  for (int now = 0; now != last || now == 0;) {
    pause_ms(60);
    last = now;
    now = end_ioctl(p.theirs, FIONREAD);
  }
  CHECK(end_close(p.theirs) == 0);
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* The first send after the peer's close is taken, a later one is not. */
static void send_after_close(struct pair p) {
  char byte;
  CHECK(end_close(p.theirs) == 0);
  await_events(p.ours, POLLIN | POLLOUT | POLLRDHUP);
  CHECK(end_send(p.ours, "x", 1, 0) == 1);
  const int code = send_until_error(p.ours);
  CHECK(code == EPIPE || code == ECONNRESET);
  CHECK(end_send(p.ours, "x", 1, 0) == -1 && errno == EPIPE);
  CHECK(end_get(p.ours, SOL_SOCKET, SO_ERROR) == 0);
  CHECK(end_recv(p.ours, &byte, 1, 0) == 0);
  CHECK(end_close(p.ours) == 0);
}

static volatile sig_atomic_t pipes_broken;
static void count_pipe(int number) {
  (void)number;
  ++pipes_broken;
}

static void sigpipe(struct pair p) {
  struct sigaction how = {.sa_handler = count_pipe};
  CHECK(sigaction(SIGPIPE, &how, NULL) == 0);
  CHECK(end_close(p.theirs) == 0);
  CHECK(send_until_error(p.ours) != 0); /* with MSG_NOSIGNAL */
  CHECK(pipes_broken == 0);
  if (p.ours.by == NULL) {
    while (send(p.ours.fd, "x", 1, 0) > 0) {
    }
    CHECK(errno == EPIPE && pipes_broken == 1);
    CHECK(write(p.ours.fd, "x", 1) == -1 && errno == EPIPE && pipes_broken == 2);
  }
  pipes_broken = 0;
  CHECK(end_close(p.ours) == 0);
}

/* A peer that exits with the socket open closes it; unread bytes reset. */
static void peer_exits(struct pair p) {
  char byte;
  const int with_unread = p.ours.fd % 2;
  close_pair(p);
  struct sockaddr_storage at;
  socklen_t size;
  const int listener = listen_at(V4, &at, &size);
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    const int fd = connect_to(&at, size);
    char bytes[2000];
    for (int i = 0; i < 20; ++i) {
      send_all(fd, bytes, 10);
      recv_all(fd, bytes, 10);
    }
    fill(bytes, sizeof bytes, 3, 0);
    send_all(fd, bytes, sizeof bytes);
    recv_all(fd, bytes, with_unread ? 1 : 10);
    if (with_unread) _exit(0);
    exit(0);
  }
  const int fd = accept(listener, NULL, NULL);
  CHECK(fd >= 0);
  char bytes[2000];
  for (int i = 0; i < 20; ++i) {
    recv_all(fd, bytes, 10);
    send_all(fd, bytes, 10);
  }
  send_all(fd, bytes, 10);
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  recv_all(fd, bytes, sizeof bytes);
  verify(bytes, sizeof bytes, 3, 0);
  const ssize_t end = recv(fd, &byte, 1, 0);
  CHECK(with_unread ? end == -1 && errno == ECONNRESET : end == 0);
  close(fd);
  close(listener);
}

/* ---- another thread ends what one waits for ------------------------------- */

struct waiting {
  int fd;
  int way; /* 0 recv, 1 poll, 2 send */
  ssize_t answer;
  int code;
};

static void* wait_for_it(void* argument) {
  struct waiting* const w = argument;
  char byte;
  static char big[1 << 16];
  if (w->way == 0) {
    w->answer = recv(w->fd, &byte, 1, 0);
  } else if (w->way == 1) {
    struct pollfd one = {w->fd, POLLIN, 0};
    w->answer = poll(&one, 1, 5000);
  } else {
    while ((w->answer = send(w->fd, big, sizeof big, MSG_NOSIGNAL)) > 0) {
    }
  }
  w->code = errno;
  return NULL;
}

static void shutdown_wakes_thread(struct pair p) {
  for (int way = 0; way < 3; ++way) {
    const struct pair q = make_pair(SELF, V4);
    if (p.ours.fd % 2) warm_up(q);
    struct waiting w = {.fd = q.ours.fd, .way = way};
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, wait_for_it, &w) == 0);
    pause_ms(way == 2 ? 120 : 5); /* let it get there; right in any case */
    CHECK(shutdown(q.ours.fd, SHUT_RDWR) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(way == 2 ? w.answer == -1 && w.code == EPIPE : w.answer == (way == 0 ? 0 : 1));
    close_pair(q);
  }
  close_pair(p);
}

/* The classic of servers: shutdown and close at once, while a thread reads. */
static void shutdown_and_close(struct pair p) {
  for (int i = 0; i < 150; ++i) {
    const struct pair q = make_pair(SELF, V4);
    if (i % 3 != 0) warm_up(q);
    struct waiting w = {.fd = q.ours.fd, .way = 0};
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, wait_for_it, &w) == 0);
    for (volatile int spin = 0; spin < i * 1000; ++spin) {
    }
    CHECK(shutdown(q.ours.fd, SHUT_RDWR) == 0);
    CHECK(close(q.ours.fd) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(w.answer == 0 || (w.answer == -1 && w.code == EBADF));
    CHECK(close(q.theirs.fd) == 0);
  }
  close_pair(p);
}

int main(void) {
  run_each("half close by them", half_close_by_them);
  run_each("half close by us", half_close_by_us);
  run_each("shut reading", shut_reading);
  run_each("close with unread", close_with_unread);
  run_each("reset wakes", reset_wakes);
  run_each("close wakes", close_wakes);
  run_each("writer learns", writer_learns);
  run_each("send after close", send_after_close);
  run_each("sigpipe", sigpipe);
  signal(SIGPIPE, SIG_IGN);
  run_each("peer exits", peer_exits);
  run_with("shutdown wakes thread", SELF, shutdown_wakes_thread);
  run_with("shutdown and close", SELF, shutdown_and_close);
  return 0;
}
