/* SPDX-License-Identifier: Apache-2.0 */
/* Timeouts, and signals that meet a call that waits. */
#include "ends.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/time.h>

static void set_timeout(int fd, int name, int ms) {
  const struct timeval time = {ms / 1000, (ms % 1000) * 1000};
  CHECK(setsockopt(fd, SOL_SOCKET, name, &time, sizeof time) == 0);
}

static void fill_up(int fd) {
  static char piece[65536];
  for (;;) {
    if (send(fd, piece, sizeof piece, MSG_DONTWAIT | MSG_NOSIGNAL) > 0) continue;
    CHECK(errno == EAGAIN);
    if (poll_one(fd, POLLOUT, 100) == 0) return;
  }
}

static void took(uint64_t since, int at_least, int at_most) {
  const int ms = (int)(now_ms() - since);
  if (ms < at_least || ms > at_most) fprintf(stderr, "%d ms\n", ms);
  CHECK(ms >= at_least && ms <= at_most);
}

static void receive_timeout(struct pair p) {
  char byte;
  if (p.ours.by == NULL) {
    set_timeout(p.ours.fd, SO_RCVTIMEO, 60);
    uint64_t since = now_ms();
    CHECK(recv(p.ours.fd, &byte, 1, 0) == -1 && errno == EAGAIN);
    took(since, 55, 2000);
    since = now_ms();
    char many[10];
    end_put(p.theirs, 4, 1, 0);
    CHECK(recv(p.ours.fd, many, 10, MSG_WAITALL) == 4);
    took(since, 55, 2000);
    verify(many, 4, 1, 0);
    /* Without: it waits again. */
    set_timeout(p.ours.fd, SO_RCVTIMEO, 0);
    end_put(p.theirs, 1, 1, 0);
    CHECK(recv(p.ours.fd, &byte, 1, 0) == 1);
    /* Set before, and through another descriptor of the socket. */
    const int other = dup(p.ours.fd);
    set_timeout(other, SO_RCVTIMEO, 30);
    CHECK(recv(p.ours.fd, &byte, 1, 0) == -1 && errno == EAGAIN);
    CHECK(close(other) == 0);
  }
  close_pair(p);
}

static void send_timeout(struct pair p) {
  static char piece[1 << 20];
  fill_up(p.ours.fd);
  set_timeout(p.ours.fd, SO_SNDTIMEO, 60);
  const uint64_t since = now_ms();
  ssize_t n = 0;
  while ((n = send(p.ours.fd, piece, sizeof piece, 0)) > 0) {
  }
  CHECK(n == -1 && errno == EAGAIN);
  took(since, 50, 3000);
  close_pair(p);
}

static void poll_timeouts(struct pair p) {
  uint64_t since = now_ms();
  CHECK(poll_one(p.ours.fd, POLLIN, 0) == 0);
  took(since, 0, 1000);
  since = now_ms();
  CHECK(poll_one(p.ours.fd, POLLIN, 40) == 0);
  took(since, 39, 2000);
  fd_set in;
  FD_ZERO(&in);
  FD_SET(p.ours.fd, &in);
  struct timeval left = {0, 40000};
  since = now_ms();
  CHECK(select(p.ours.fd + 1, &in, NULL, NULL, &left) == 0);
  took(since, 39, 2000);
  CHECK(!FD_ISSET(p.ours.fd, &in) && left.tv_sec == 0 && left.tv_usec == 0);
  const int set = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN};
  CHECK(epoll_ctl(set, EPOLL_CTL_ADD, p.ours.fd, &event) == 0);
  since = now_ms();
  CHECK(epoll_wait(set, &event, 1, 40) == 0);
  took(since, 39, 2000);
  since = now_ms();
  CHECK(epoll_wait(set, &event, 1, 0) == 0);
  took(since, 0, 1000);
  close(set);
  close_pair(p);
}

/* ---- EINTR ---------------------------------------------------------------- */

static volatile sig_atomic_t rings;
static void on_alarm(int number) {
  (void)number;
  ++rings;
}

static void handle(int flags, void (*with)(int)) {
  struct sigaction how = {.sa_handler = with, .sa_flags = flags};
  CHECK(sigaction(SIGALRM, &how, NULL) == 0);
}
static void alarm_in(int first_ms, int every_ms) {
  const struct itimerval when = {{0, every_ms * 1000}, {0, first_ms * 1000}};
  CHECK(setitimer(ITIMER_REAL, &when, NULL) == 0);
}

static void interrupted(struct pair p) {
  char byte;
  rings = 0;
  handle(0, on_alarm);
  alarm_in(30, 0);
  CHECK(recv(p.ours.fd, &byte, 1, 0) == -1 && errno == EINTR && rings == 1);
  struct pollfd one = {p.ours.fd, POLLIN, 0};
  alarm_in(30, 0);
  CHECK(poll(&one, 1, -1) == -1 && errno == EINTR && rings == 2);
  fd_set in;
  FD_ZERO(&in);
  FD_SET(p.ours.fd, &in);
  alarm_in(30, 0);
  CHECK(select(p.ours.fd + 1, &in, NULL, NULL, NULL) == -1 && errno == EINTR && rings == 3);
  CHECK(FD_ISSET(p.ours.fd, &in));
  const int set = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN};
  CHECK(epoll_ctl(set, EPOLL_CTL_ADD, p.ours.fd, &event) == 0);
  alarm_in(30, 0);
  CHECK(epoll_wait(set, &event, 1, -1) == -1 && errno == EINTR && rings == 4);
  close(set);
  /* Bytes that came before the signal are an answer, not an error. */
  end_put(p.theirs, 3, 1, 0);
  char many[10];
  alarm_in(30, 0);
  CHECK(recv(p.ours.fd, many, 10, MSG_WAITALL) == 3 && rings == 5);
  fill_up(p.ours.fd);
  static char piece[1 << 20];
  ssize_t n = 0;
  alarm_in(100, 30);
  while ((n = send(p.ours.fd, piece, sizeof piece, 0)) > 0) {
  }
  CHECK(n == -1 && errno == EINTR);
  alarm_in(0, 0);
  close_pair(p);
}

/* With a timeout a call is never restarted; poll never is. */
static void restarted_not(struct pair p) {
  char byte;
  rings = 0;
  handle(SA_RESTART, on_alarm);
  set_timeout(p.ours.fd, SO_RCVTIMEO, 5000);
  alarm_in(20, 20);
  CHECK(recv(p.ours.fd, &byte, 1, 0) == -1 && errno == EINTR);
  struct pollfd one = {p.ours.fd, POLLIN, 0};
  CHECK(poll(&one, 1, -1) == -1 && errno == EINTR);
  alarm_in(0, 0);
  close_pair(p);
}

struct late {
  int fd;
  int ms;
};
static void* send_late(void* argument) {
  const struct late* const l = argument;
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, NULL);
  pause_ms(l->ms);
  CHECK(send(l->fd, "!", 1, 0) == 1);
  return NULL;
}

static void restarted(struct pair p) {
  char byte = 0;
  rings = 0;
  handle(SA_RESTART, on_alarm);
  struct late l = {p.theirs.fd, 120};
  sigset_t ring;
  sigset_t before;
  sigemptyset(&ring);
  sigaddset(&ring, SIGALRM);
  pthread_sigmask(SIG_BLOCK, &ring, &before);
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, send_late, &l) == 0);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  alarm_in(10, 10);
  CHECK(recv(p.ours.fd, &byte, 1, 0) == 1 && byte == '!');
  CHECK(rings >= 3);
  alarm_in(0, 0);
  CHECK(pthread_join(thread, NULL) == 0);
  close_pair(p);
}

/* A signal that the mask of ppoll lets in, and only there. */
static void masked(struct pair p) {
  rings = 0;
  handle(0, on_alarm);
  sigset_t ring;
  sigset_t before;
  sigemptyset(&ring);
  sigaddset(&ring, SIGALRM);
  CHECK(sigprocmask(SIG_BLOCK, &ring, &before) == 0);
  raise(SIGALRM);
  struct pollfd one = {p.ours.fd, POLLIN, 0};
  const struct timespec soon = {5, 0};
  CHECK(ppoll(&one, 1, &soon, &before) == -1 && errno == EINTR && rings == 1);
  raise(SIGALRM);
  fd_set in;
  FD_ZERO(&in);
  FD_SET(p.ours.fd, &in);
  CHECK(pselect(p.ours.fd + 1, &in, NULL, NULL, &soon, &before) == -1 && errno == EINTR);
  CHECK(rings == 2);
  const int set = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN};
  CHECK(epoll_ctl(set, EPOLL_CTL_ADD, p.ours.fd, &event) == 0);
  raise(SIGALRM);
  CHECK(epoll_pwait(set, &event, 1, 5000, &before) == -1 && errno == EINTR && rings == 3);
  close(set);
  CHECK(sigprocmask(SIG_SETMASK, &before, NULL) == 0);
  CHECK(rings == 3);
  close_pair(p);
}

int main(void) {
  run_each("receive timeout", receive_timeout);
  run_each("send timeout", send_timeout);
  run_each("poll timeouts", poll_timeouts);
  run_each("interrupted", interrupted);
  run_each("restarted not", restarted_not);
  run_with("restarted", SELF, restarted);
  run_each("masked", masked);
  return 0;
}
