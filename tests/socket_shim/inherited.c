/* SPDX-License-Identifier: Apache-2.0 */
/* Listeners that a program did not open itself: it was given them over exec, as
 * by service managers and by servers that replace their own program. */
#include "ends.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* ---- the program that is given a listener ---------------------------------- */

/* Sends back what comes, one connection after the other, until one begins with
 * a 'q' alone. */
static void serve(int listener) {
  char bytes[3000];
  for (int is_last = 0; !is_last;) {
    const int fd = accept(listener, NULL, NULL);
    CHECK(fd >= 0);
    ssize_t n = 0;
    while ((n = recv(fd, bytes, sizeof bytes, 0)) > 0) {
      is_last |= n == 1 && bytes[0] == 'q';
      send_all(fd, bytes, (size_t)n);
    }
    CHECK(n == 0 && close(fd) == 0);
  }
}

/* The first use of the listener, before anybody connects. */
static void use_first(int listener, const char* how) {
  if (strcmp(how, "epoll") == 0) {
    const int set = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN};
    CHECK(set >= 0 && epoll_ctl(set, EPOLL_CTL_ADD, listener, &event) == 0);
  } else if (strcmp(how, "ask") == 0) {
    int listens = 0;
    socklen_t size = sizeof listens;
    CHECK(getsockopt(listener, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0 && listens);
  }
}

/* ---- the program that gives it ---------------------------------------------- */

struct place {
  struct sockaddr_storage at;
  socklen_t size;
};

/* This file in a process of its own, which has the listener. */
static pid_t start_image(int listener, const char* how) {
  int told[2];
  char byte;
  char numbers[2][16];
  CHECK(pipe(told) == 0);
  snprintf(numbers[0], sizeof numbers[0], "%d", listener);
  snprintf(numbers[1], sizeof numbers[1], "%d", told[1]);
  fflush(NULL);
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    close(told[0]);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (strcmp(how, "plain") == 0) unsetenv("LD_PRELOAD");
    execl("/proc/self/exe", "inherited", "serve", numbers[0], how, numbers[1], NULL);
    _exit(1);
  }
  close(told[1]);
  CHECK(read(told[0], &byte, 1) == 1);
  close(told[0]);
  return child;
}

static void reap(pid_t child) {
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void kill_image(pid_t child) {
  CHECK(kill(child, SIGKILL) == 0);
  CHECK(waitpid(child, NULL, 0) == child);
}

static void echo(int fd, size_t size, uint32_t seed) {
  char bytes[2000];
  fill(bytes, size, seed, 0);
  send_all(fd, bytes, size);
  recv_all(fd, bytes, size);
  verify(bytes, size, seed, 0);
}

enum lane { ANY, TCP, MEMORY };

/* A connection that is in use for a while, and the lane that it must be on
 * then, where the environment asks for lanes at all. */
static void visit(const struct place* of, enum lane must) {
  const char* const lanes = getenv("TALK_LANE");
  const int fd = connect_to(&of->at, of->size);
  for (uint32_t round = 0; round < 24; ++round) echo(fd, 100 + round, round);
  const uint64_t before = tcp_bytes_received(fd);
  for (uint32_t round = 0; round < 24; ++round) echo(fd, 2000 - round, round);
  const int is_tcp = tcp_bytes_received(fd) != before;
  if (lanes != NULL && strcmp(lanes, "memory") == 0 && must != ANY) CHECK(is_tcp == (must == TCP));
  if (lanes != NULL && strcmp(lanes, "tcp") == 0) CHECK(is_tcp);
  CHECK(close(fd) == 0);
}

static void ask_to_end(const struct place* of) {
  const int fd = connect_to(&of->at, of->size);
  char byte = 'q';
  send_all(fd, &byte, 1);
  recv_all(fd, &byte, 1);
  CHECK(close(fd) == 0);
}

static struct place made;
static int make_listener(const char* what) {
  doing("%s", what);
  const int listener = listen_at(V4, &made.at, &made.size);
  CHECK(fcntl(listener, F_SETFD, 0) == 0);
  return listener;
}
static void done(const char* what) {
  printf("%s: ok\n", what);
  fflush(stdout);
}

static void first_uses(void) {
  static const char* const ways[] = {"epoll", "ask", "accept"};
  for (size_t i = 0; i < sizeof ways / sizeof *ways; ++i) {
    const int listener = make_listener(ways[i]);
    const pid_t image = start_image(listener, ways[i]);
    close(listener);
    /* Nobody can see when it waits in its first accept. */
    visit(&made, strcmp(ways[i], "accept") == 0 ? ANY : MEMORY);
    visit(&made, MEMORY);
    ask_to_end(&made);
    reap(image);
    done(ways[i]);
  }
}

/* Nothing of ours in the new program: it never hears of CLC. */
static void without_library(void) {
  for (int is_closed = 0; is_closed < 2; ++is_closed) {
    const int listener = make_listener("plain");
    const pid_t image = start_image(listener, "plain");
    if (is_closed) close(listener);
    visit(&made, TCP);
    visit(&made, TCP);
    ask_to_end(&made);
    reap(image);
    if (!is_closed) close(listener);
    done("plain");
  }
}

/* Who announced the listener closes it, and others go on with it. */
static void closed_by_maker(void) {
  const int listener = make_listener("closed");
  fflush(NULL);
  const pid_t worker = fork();
  CHECK(worker >= 0);
  if (worker == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    serve(listener);
    exit(0);
  }
  close(listener);
  visit(&made, ANY);
  visit(&made, MEMORY);
  ask_to_end(&made);
  reap(worker);
  done("closed");
}

/* Those who announced the listener are killed, and swept by who comes next. The
 * last one did not announce it, since enough others had. */
static void killed(void) {
  const int listener = make_listener("killed");
  pid_t images[3];
  for (int i = 0; i < 3; ++i) images[i] = start_image(listener, "epoll");
  close(listener);
  kill_image(images[0]);
  kill_image(images[1]);
  const struct place of_killed = made;
  const int another = make_listener("another");
  const pid_t next = start_image(another, "epoll");
  close(another);
  visit(&of_killed, ANY);
  visit(&of_killed, MEMORY);
  ask_to_end(&of_killed);
  ask_to_end(&made);
  reap(images[2]);
  reap(next);
  done("killed");
}

int main(int count, char** arguments) {
  if (count == 5 && strcmp(arguments[1], "serve") == 0) {
    const int listener = atoi(arguments[2]);
    const int told = atoi(arguments[4]);
    use_first(listener, arguments[3]);
    CHECK(write(told, "x", 1) == 1 && close(told) == 0);
    serve(listener);
    return 0;
  }
  first_uses();
  without_library();
  closed_by_maker();
  killed();
  return 0;
}
