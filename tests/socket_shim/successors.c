/* SPDX-License-Identifier: Apache-2.0 */
/* Programs that take each other's place in one process, and leave each other a
 * connection that is in use. */
#include "ends.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/wait.h>

enum { SIZE = 400 };

/* What the first byte of a message asks for. */
enum order {
  ECHO = 'e',
  AT_ONCE = 'x',  /* become the next program */
  BY_NAME = 'n',  /* the same, found in PATH */
  IN_CHILD = 'c', /* a child becomes it, after its parent closed the connection */
  SHARED = 's',   /* a child becomes it, and its parent keeps the connection */
  COPIED = 'u',   /* it has two descriptors of the connection */
  FORGED = 'f',   /* the same, and the environment says something else */
  WATCHED = 'w',  /* it has an epoll set, too */
  AS_INPUT = 'i', /* it has the connection as its standard input */
  WITHOUT = 'p',  /* it begins without what the environment preloads */
  QUIT = 'q',
};

/* ---- the programs ------------------------------------------------------------ */

static void go(int fd, int by_name) {
  char number[16];
  snprintf(number, sizeof number, "%d", fd);
  if (by_name) {
    CHECK(setenv("PATH", getenv("HERE"), 1) == 0);
    execlp("shim_successors", "successors", number, NULL);
  } else {
    execl("/proc/self/exe", "successors", number, NULL);
  }
  CHECK(0);
}

static uint64_t cookie_of(int fd) {
  uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  CHECK(getsockopt(fd, SOL_SOCKET, 57 /* SO_COOKIE */, &cookie, &size) == 0);
  return cookie;
}

static void in_child(int fd, int is_shared) {
  int ready[2];
  char byte;
  CHECK(pipe(ready) == 0);
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
    close(ready[1]);
    CHECK(read(ready[0], &byte, 1) == 0);
    close(ready[0]);
    go(fd, 0);
  }
  if (!is_shared) CHECK(close(fd) == 0);
  close(ready[0]);
  close(ready[1]);
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child);
  exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

static void obey(int fd, char what) {
  char text[128];
  switch (what) {
    case BY_NAME: go(fd, 1); break;
    case IN_CHILD:
    case SHARED: in_child(fd, what == SHARED); break;
    case COPIED: CHECK(dup(fd) >= 0); break;
    case FORGED:
      CHECK(dup(fd) >= 0);
      snprintf(text, sizeof text, "%d %ds%llx %dc%llx =/another/program", (int)getpid(), fd,
               (unsigned long long)cookie_of(fd), fd, (unsigned long long)cookie_of(fd));
      CHECK(setenv("DIBSOCK_INHERITED", text, 1) == 0);
      break;
    case WATCHED: {
      struct epoll_event event = {.events = EPOLLIN};
      const int set = epoll_create1(0);
      CHECK(set >= 0 && epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) == 0);
      break;
    }
    case AS_INPUT:
      CHECK(dup2(fd, 0) == 0 && close(fd) == 0);
      fd = 0;
      break;
    case WITHOUT:
      if (getenv("LD_PRELOAD") != NULL) CHECK(setenv("KEPT", getenv("LD_PRELOAD"), 1) == 0);
      CHECK(unsetenv("LD_PRELOAD") == 0);
      break;
    default: break;
  }
  go(fd, 0);
}

static void serve(int fd) {
  char bytes[SIZE];
  CHECK(getenv("LD_PRELOAD") == NULL || getenv("DIBSOCK_INHERITED") == NULL);
  for (;;) {
    recv_all(fd, bytes, SIZE);
    if (bytes[0] == QUIT) exit(0);
    if (bytes[0] != ECHO) {
      /* Whoever follows one that began without it has it again. */
      if (getenv("KEPT") != NULL) CHECK(setenv("LD_PRELOAD", getenv("KEPT"), 1) == 0);
      obey(fd, bytes[0]);
    }
    send_all(fd, bytes, SIZE);
  }
}

/* ---- who talks to them --------------------------------------------------------- */

static void ask(int fd, char what, uint32_t seed) {
  char bytes[SIZE];
  fill(bytes, SIZE, seed, 0);
  bytes[0] = what;
  send_all(fd, bytes, SIZE);
}
static void take(int fd, uint32_t seed) {
  char bytes[SIZE];
  recv_all(fd, bytes, SIZE);
  CHECK(bytes[0] == ECHO);
  unsigned char first = byte_of(seed, 0);
  memcpy(bytes, &first, 1);
  verify(bytes, SIZE, seed, 0);
}

static void converse(int fd, int must_be_tcp) {
  const char* const lanes = getenv("TALK_LANE");
  for (uint32_t round = 0; round < 40; ++round) {
    ask(fd, ECHO, round);
    take(fd, round);
  }
  const uint64_t before = tcp_bytes_received(fd);
  for (uint32_t round = 0; round < 10; ++round) {
    ask(fd, ECHO, round);
    take(fd, round);
  }
  const int is_tcp = tcp_bytes_received(fd) != before;
  if (lanes != NULL && strcmp(lanes, "memory") == 0 && !is_rough()) CHECK(is_tcp == must_be_tcp);
  if (lanes != NULL && strcmp(lanes, "tcp") == 0) CHECK(is_tcp);
}

/* `orders` one after the other; a capital letter says that TCP must follow. */
static void run(const char* name, const char* orders, int is_client) {
  struct sockaddr_storage at;
  socklen_t size = 0;
  doing("%s", name);
  const int listener = listen_at(V4, &at, &size);
  CHECK(fcntl(listener, F_SETFD, FD_CLOEXEC) == 0);
  fflush(NULL);
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
    const int given = is_client ? connect_to(&at, size) : accept(listener, NULL, NULL);
    CHECK(given >= 0 && fcntl(given, F_SETFD, 0) == 0);
    serve(given);
  }
  const int fd = is_client ? accept(listener, NULL, NULL) : connect_to(&at, size);
  CHECK(fd >= 0);
  for (const char* order = orders;; ++order) {
    const int must_be_tcp = *order >= 'A' && *order <= 'Z';
    if (order == orders) converse(fd, 0);
    if (*order == '\0') break;
    ask(fd, (char)(must_be_tcp ? *order + 'a' - 'A' : *order), 0);
    /* The next program reads what its predecessor did not. Where a full ring was
     * left for TCP nothing may be unread (docs/shim.md). */
    if (is_rough()) take(fd, 0);
    for (uint32_t i = 0; i < 3; ++i) ask(fd, ECHO, i);
    if (!is_rough()) take(fd, 0);
    for (uint32_t i = 0; i < 3; ++i) take(fd, i);
    converse(fd, must_be_tcp);
  }
  ask(fd, QUIT, 0);
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  char byte;
  CHECK(recv(fd, &byte, 1, 0) == 0 && close(fd) == 0);
  CHECK(close(listener) == 0);
  printf("%s: ok\n", name);
  fflush(stdout);
}

int main(int count, char** arguments) {
  char here[4096];
  if (count == 2) {
    ask(atoi(arguments[1]), ECHO, 0);
    serve(atoi(arguments[1]));
  }
  const ssize_t length = readlink("/proc/self/exe", here, sizeof here - 1);
  CHECK(length > 0);
  here[length] = '\0';
  *strrchr(here, '/') = '\0';
  CHECK(setenv("HERE", here, 1) == 0);
  for (int is_client = 0; is_client < 2; ++is_client) {
    run("at once", "xxx", is_client);
    run("by name", "nnx", is_client);
    run("in a child", "ccx", is_client);
    run("shared", "S", is_client);
    run("copied", "UX", is_client);
    run("forged", "F", is_client);
    run("watched", "W", is_client);
    run("as input", "IX", is_client);
    run("without", "xPXX", is_client);
  }
  return 0;
}
