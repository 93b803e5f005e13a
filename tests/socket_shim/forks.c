/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets that more than one process has: over fork, vfork, exec and
 * SCM_RIGHTS. */
#include "ends.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

extern char** environ;

static pid_t fork_now(void) {
  fflush(NULL);
  const pid_t child = fork();
  CHECK(child >= 0);
  return child;
}
static void reap(pid_t child) {
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void talk(struct pair p, uint32_t seed) {
  for (uint64_t at = 0; at < 20000; at += 1000) {
    end_put(p.ours, 1000, seed, at);
    end_take(p.theirs, 1000, seed, at);
    end_put(p.theirs, 1000, seed + 1, at);
    end_take(p.ours, 1000, seed + 1, at);
  }
}

/* Parent and child use the connection one after the other, more than once. */
static void by_turns(struct pair p) {
  int told[2];
  int telling[2];
  char byte;
  CHECK(pipe(told) == 0 && pipe(telling) == 0);
  const pid_t child = fork_now();
  if (child == 0) {
    for (uint32_t round = 0; round < 4; ++round) {
      CHECK(read(telling[0], &byte, 1) == 1);
      talk(p, 100 + round);
      CHECK(write(told[1], "x", 1) == 1);
    }
    _exit(0);
  }
  for (uint32_t round = 0; round < 4; ++round) {
    talk(p, 200 + round);
    CHECK(write(telling[1], "x", 1) == 1);
    CHECK(read(told[0], &byte, 1) == 1);
  }
  reap(child);
  talk(p, 1);
  for (int i = 0; i < 2; ++i) {
    close(told[i]);
    close(telling[i]);
  }
  close_pair(p);
}

/* Both write at the same time, whole records; the reader sorts them. */
static void both_write(struct pair p) {
  enum { RECORDS = 3000 };
  if (p.theirs.by == NULL) { /* needs a reader besides */
    close_pair(p);
    return;
  }
  const pid_t child = fork_now();
  const uint32_t who = child == 0 ? 1 : 2;
  for (uint32_t i = 0; i < RECORDS; ++i) {
    const uint32_t record[2] = {who, i};
    CHECK(send(p.ours.fd, record, sizeof record, 0) == sizeof record);
  }
  if (child == 0) _exit(0);
  uint32_t next[3] = {0, 0, 0};
  for (uint32_t i = 0; i < 2 * RECORDS; ++i) {
    uint32_t record[2];
    CHECK(end_recv(p.theirs, record, sizeof record, MSG_WAITALL) == sizeof record);
    CHECK(record[0] == 1 || record[0] == 2);
    CHECK(record[1] == next[record[0]]++);
  }
  reap(child);
  talk(p, 1);
  close_pair(p);
}

/* The parent closes what its child goes on with, and the other way round. The
 * end comes when the last one is gone. */
static void handed_over(struct pair p) {
  char byte;
  pid_t child = fork_now();
  if (child == 0) {
    if (p.theirs.by == NULL) CHECK(close(p.theirs.fd) == 0);
    _exit(0);
  }
  reap(child);
  talk(p, 1);
  if (p.theirs.by == NULL) {
    close_pair(p);
    return;
  }
  child = fork_now();
  if (child == 0) {
    talk(p, 3);
    talk(p, 5);
    _exit(0);
  }
  CHECK(close(p.ours.fd) == 0);
  reap(child);
  CHECK(end_recv(p.theirs, &byte, 1, 0) == 0);
  CHECK(end_close(p.theirs) == 0);
}

/* The child has a child that becomes another program, before it does anything itself, and only
 * then the parent closes its copy: as socat does. */
static void grandchild(struct pair p) {
  if (p.theirs.by == NULL) {
    close_pair(p);
    return;
  }
  int told[2];
  int telling[2];
  char byte;
  CHECK(pipe(told) == 0 && pipe(telling) == 0);
  CHECK(fcntl(p.ours.fd, F_SETFD, FD_CLOEXEC) == 0);
  const pid_t child = fork_now();
  if (child == 0) {
    const pid_t other = fork_now();
    if (other == 0) {
      execl("/bin/true", "true", NULL);
      _exit(1);
    }
    reap(other);
    CHECK(write(told[1], "x", 1) == 1);
    CHECK(read(telling[0], &byte, 1) == 1);
    talk(p, 1);
    check_lane(p);
    _exit(0);
  }
  CHECK(read(told[0], &byte, 1) == 1);
  CHECK(close(p.ours.fd) == 0);
  CHECK(write(telling[1], "x", 1) == 1);
  reap(child);
  CHECK(end_recv(p.theirs, &byte, 1, 0) == 0);
  CHECK(end_close(p.theirs) == 0);
  for (int i = 0; i < 2; ++i) {
    close(told[i]);
    close(telling[i]);
  }
}

/* The child leaves bytes unread that the parent reads. */
static void child_exits(struct pair p) {
  for (int round = 0; round < 4; ++round) {
    end_put(p.theirs, 1000, 1, 0);
    const pid_t child = fork_now();
    if (child == 0) {
      char bytes[100];
      recv_all(p.ours.fd, bytes, 100);
      verify(bytes, 100, 1, 0);
      switch (round) {
        case 0: _exit(0);
        case 1: exit(0);
        case 2: close(p.ours.fd); _exit(0);
        default: kill(getpid(), SIGKILL);
      }
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    end_take(p.ours, 900, 1, 100);
    talk(p, 1);
  }
  close_pair(p);
}

/* A helper that is forked while the connection is young, and lives on. Neither
 * it nor its end may hold up the connection. */
static void helper_forked(struct pair p) {
  for (int way = 0; way < 4; ++way) {
    for (int before = 0; before < 30; before += 2) {
      const struct pair q = make_pair(way % 2 ? AS_CLIENT : AS_SERVER, V4);
      for (int i = 0; i < before; ++i) {
        end_put(q.ours, 10, 1, (uint64_t)i * 10);
        end_take(q.theirs, 10, 1, (uint64_t)i * 10);
        if (i % 2) {
          end_put(q.theirs, 10, 2, (uint64_t)i * 10);
          end_take(q.ours, 10, 2, (uint64_t)i * 10);
        }
      }
      const pid_t helper = fork_now();
      if (helper == 0) {
        if (way / 2 == 0) _exit(0);
        for (;;) pause();
      }
      if (way / 2 == 0) reap(helper);
      talk(q, 3);
      if (way / 2 != 0) {
        kill(helper, SIGKILL);
        CHECK(waitpid(helper, NULL, 0) == helper);
      }
      talk(q, 5);
      close_pair(q);
    }
  }
  close_pair(p);
}

/* A server that forks for each connection; many clients at once, and all in
 * one process. */
static void fork_per_connection(struct pair p) {
  enum { CLIENTS = 24, SIZE = 200000 };
  close_pair(p);
  struct sockaddr_storage at;
  socklen_t size;
  const int listener = listen_at(V4, &at, &size);
  const pid_t server = fork_now();
  if (server == 0) {
    for (int i = 0; i < CLIENTS; ++i) {
      const int fd = accept(listener, NULL, NULL);
      CHECK(fd >= 0);
      const pid_t worker = fork();
      CHECK(worker >= 0);
      if (worker == 0) {
        close(listener);
        char bytes[5000];
        ssize_t n = 0;
        while ((n = recv(fd, bytes, sizeof bytes, 0)) > 0) send_all(fd, bytes, (size_t)n);
        CHECK(n == 0);
        exit(0);
      }
      CHECK(close(fd) == 0);
    }
    for (int i = 0; i < CLIENTS; ++i) {
      int status = 0;
      CHECK(wait(&status) > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    _exit(0);
  }
  int fds[CLIENTS];
  for (int i = 0; i < CLIENTS; ++i) fds[i] = connect_to(&at, size);
  static char bytes[SIZE / 50];
  for (uint64_t place = 0; place < SIZE; place += sizeof bytes) {
    for (int i = 0; i < CLIENTS; ++i) {
      fill(bytes, sizeof bytes, (uint32_t)i, place);
      send_all(fds[i], bytes, sizeof bytes);
    }
    for (int i = 0; i < CLIENTS; ++i) {
      recv_all(fds[i], bytes, sizeof bytes);
      verify(bytes, sizeof bytes, (uint32_t)i, place);
    }
  }
  for (int i = 0; i < CLIENTS; ++i) CHECK(close(fds[i]) == 0);
  reap(server);
  close(listener);
}

/* Workers made before the first connection accept from one listener. */
static void preforked(struct pair p) {
  enum { WORKERS = 3, CLIENTS = 30 };
  close_pair(p);
  struct sockaddr_storage at;
  socklen_t size;
  const int listener = listen_at(V4, &at, &size);
  pid_t workers[WORKERS];
  for (int i = 0; i < WORKERS; ++i) {
    workers[i] = fork_now();
    if (workers[i] == 0) {
      for (;;) {
        const int fd = accept(listener, NULL, NULL);
        CHECK(fd >= 0);
        char bytes[3000];
        ssize_t n = 0;
        int is_last = 0;
        while ((n = recv(fd, bytes, sizeof bytes, 0)) > 0) {
          is_last |= bytes[0] == 'q' && n == 1;
          send_all(fd, bytes, (size_t)n);
        }
        CHECK(n == 0 && close(fd) == 0);
        if (is_last) exit(0);
      }
    }
  }
  for (int i = 0; i < CLIENTS; ++i) {
    const int fd = connect_to(&at, size);
    char bytes[1000];
    for (uint64_t place = 0; place < 20000; place += sizeof bytes) {
      fill(bytes, sizeof bytes, 7, place);
      send_all(fd, bytes, sizeof bytes);
      recv_all(fd, bytes, sizeof bytes);
      verify(bytes, sizeof bytes, 7, place);
    }
    CHECK(close(fd) == 0);
  }
  for (int i = 0; i < WORKERS; ++i) {
    const int fd = connect_to(&at, size);
    char byte = 'q';
    send_all(fd, &byte, 1);
    recv_all(fd, &byte, 1);
    CHECK(close(fd) == 0);
  }
  for (int i = 0; i < WORKERS; ++i) reap(workers[i]);
  close(listener);
}

/* What runtimes do between vfork and exec must change nothing here. */
static void vfork_child(struct pair p) {
  talk(p, 1);
  for (int i = 0; i < 5; ++i) {
    const pid_t child = vfork();
    CHECK(child >= 0);
    if (child == 0) {
      close(p.ours.fd);
      if (p.theirs.by == NULL) close(p.theirs.fd);
      dup2(1, p.ours.fd);
      close_range(3, ~0U, 0);
      if (i % 2) execl("/bin/true", "true", NULL);
      _exit(0);
    }
    reap(child);
    talk(p, 3);
    pid_t spawned = 0;
    char* const arguments[] = {"true", NULL};
    posix_spawn_file_actions_t actions;
    CHECK(posix_spawn_file_actions_init(&actions) == 0);
    CHECK(posix_spawn_file_actions_addclose(&actions, p.ours.fd) == 0);
    CHECK(posix_spawn(&spawned, "/bin/true", &actions, NULL, arguments, environ) == 0);
    posix_spawn_file_actions_destroy(&actions);
    reap(spawned);
    CHECK(system("exit 3") == 3 << 8);
    talk(p, 5);
  }
  close_pair(p);
}

/* A child that becomes cat, with the socket as its standard input and output,
 * as inetd makes its servers. Gives its pid when it has become that. */
static pid_t exec_cat(int fd) {
  int execs[2];
  char byte;
  CHECK(pipe2(execs, O_CLOEXEC) == 0);
  const pid_t child = fork_now();
  if (child == 0) {
    CHECK(dup2(fd, 0) == 0 && dup2(fd, 1) == 1);
    if (fd > 1) close(fd);
    unsetenv("LD_PRELOAD"); /* it knows nothing of its parent's ways */
    execl("/bin/cat", "cat", NULL);
    _exit(1);
  }
  close(execs[1]);
  CHECK(read(execs[0], &byte, 1) == 0);
  close(execs[0]);
  return child;
}

static void exec_with_socket(struct pair p) {
  if (p.theirs.by == NULL) {
    close_pair(p);
    return;
  }
  const pid_t child = exec_cat(p.ours.fd);
  CHECK(close(p.ours.fd) == 0);
  char bytes[1000];
  for (uint64_t at = 0; at < 20000; at += sizeof bytes) {
    fill(bytes, sizeof bytes, 9, at);
    CHECK(end_send(p.theirs, bytes, sizeof bytes, 0) == sizeof bytes);
    CHECK(end_recv(p.theirs, bytes, sizeof bytes, MSG_WAITALL) == sizeof bytes);
    verify(bytes, sizeof bytes, 9, at);
  }
  CHECK(end_shutdown(p.theirs, SHUT_WR) == 0);
  CHECK(end_recv(p.theirs, bytes, 1, 0) == 0);
  reap(child);
  CHECK(end_close(p.theirs) == 0);
}

/* The same from vfork, as subprocess libraries do it: the parent goes on. */
static pid_t vfork_cat(int fd) {
  char* const arguments[] = {"cat", NULL};
  char* const nothing[] = {NULL};
  const pid_t child = vfork();
  CHECK(child >= 0);
  if (child == 0) {
    if (dup2(fd, 0) == 0 && dup2(fd, 1) == 1) execve("/bin/cat", arguments, nothing);
    _exit(1);
  }
  return child;
}
static pid_t spawn_cat(int fd) {
  char* const arguments[] = {"cat", NULL};
  char* const nothing[] = {NULL};
  pid_t child = 0;
  posix_spawn_file_actions_t actions;
  CHECK(posix_spawn_file_actions_init(&actions) == 0);
  CHECK(posix_spawn_file_actions_adddup2(&actions, fd, 0) == 0);
  CHECK(posix_spawn_file_actions_adddup2(&actions, fd, 1) == 0);
  CHECK(posix_spawn(&child, "/bin/cat", &actions, NULL, arguments, nothing) == 0);
  posix_spawn_file_actions_destroy(&actions);
  return child;
}

/* The same, with bytes that came before the exec and nobody read. But not when the
 * library is at its worst: then some of them are in memory and later ones on TCP
 * already, which cannot be given to the kernel. */
static pid_t (*become_cat)(int fd) = exec_cat;
static void exec_with_unread(struct pair p) {
  if (p.theirs.by == NULL) {
    close_pair(p);
    return;
  }
  char bytes[3000];
  fill(bytes, sizeof bytes, 9, 0);
  CHECK(end_send(p.theirs, bytes, sizeof bytes, 0) == sizeof bytes);
  while (end_ioctl(p.ours, FIONREAD) != sizeof bytes) CHECK(end_poll(p.ours, POLLIN, 5000) != 0);
  const size_t taken = is_rough() ? sizeof bytes : 500;
  const size_t unread = sizeof bytes - taken;
  end_take(p.ours, taken, 9, 0);
  const pid_t child = become_cat(p.ours.fd);
  CHECK(close(p.ours.fd) == 0);
  if (unread > 0) {
    CHECK(end_poll(p.theirs, POLLIN, 3000) == POLLIN);
    CHECK(end_recv(p.theirs, bytes, unread, MSG_WAITALL) == (ssize_t)unread);
    verify(bytes, unread, 9, taken);
  }
  CHECK(end_shutdown(p.theirs, SHUT_WR) == 0);
  CHECK(end_recv(p.theirs, bytes, 1, 0) == 0);
  reap(child);
  CHECK(end_close(p.theirs) == 0);
}

/* Passed to another process of the same kind, with bytes that nobody read; see above. */
static void passed(struct pair p) {
  if (p.theirs.by == NULL) {
    close_pair(p);
    return;
  }
  const size_t unread = is_warm && !is_rough() ? 3000 : 0;
  end_put(p.theirs, 1000 + unread, 8, 0);
  end_take(p.ours, 1000, 8, 0);
  int ends[2];
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  union {
    struct cmsghdr head;
    char bytes[CMSG_SPACE(sizeof(int))];
  } control;
  memset(&control, 0, sizeof control);
  char byte = 'f';
  struct iovec part = {&byte, 1};
  struct msghdr message = {.msg_iov = &part,
                           .msg_iovlen = 1,
                           .msg_control = control.bytes,
                           .msg_controllen = sizeof control.bytes};
  const pid_t child = fork_now();
  if (child == 0) {
    CHECK(close(p.ours.fd) == 0);
    CHECK(recvmsg(ends[1], &message, 0) == 1);
    int fd = -1;
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    CHECK(fd >= 0);
    char bytes[1000];
    for (uint64_t at = 0; at < unread; at += sizeof bytes) {
      recv_all(fd, bytes, sizeof bytes);
      verify(bytes, sizeof bytes, 8, 1000 + at);
    }
    for (uint64_t at = 0; at < 20000; at += sizeof bytes) {
      recv_all(fd, bytes, sizeof bytes);
      verify(bytes, sizeof bytes, 9, at);
      send_all(fd, bytes, sizeof bytes);
    }
    CHECK(recv(fd, bytes, 1, 0) == 0);
    CHECK(close(fd) == 0);
    _exit(0);
  }
  struct cmsghdr* const head = CMSG_FIRSTHDR(&message);
  head->cmsg_level = SOL_SOCKET;
  head->cmsg_type = SCM_RIGHTS;
  head->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(head), &p.ours.fd, sizeof(int));
  CHECK(sendmsg(ends[0], &message, 0) == 1);
  CHECK(close(p.ours.fd) == 0);
  char bytes[1000];
  for (uint64_t at = 0; at < 20000; at += sizeof bytes) {
    fill(bytes, sizeof bytes, 9, at);
    CHECK(end_send(p.theirs, bytes, sizeof bytes, 0) == sizeof bytes);
    CHECK(end_recv(p.theirs, bytes, sizeof bytes, MSG_WAITALL) == sizeof bytes);
    verify(bytes, sizeof bytes, 9, at);
  }
  CHECK(end_shutdown(p.theirs, SHUT_WR) == 0);
  CHECK(end_recv(p.theirs, bytes, 1, 0) == 0);
  reap(child);
  CHECK(end_close(p.theirs) == 0);
  close(ends[0]);
  close(ends[1]);
}

/* Forks in one thread while others talk. */
static volatile int is_over;
static void* talk_on(void* argument) {
  const struct pair* const p = argument;
  for (uint32_t seed = 1; !is_over; ++seed) talk(*p, seed);
  return NULL;
}
static void fork_beside_threads(struct pair p) {
  is_over = 0;
  struct pair q = make_pair(SELF, V4);
  pthread_t threads[2];
  CHECK(pthread_create(&threads[0], NULL, talk_on, &q) == 0);
  for (int i = 0; i < 40; ++i) {
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
      struct pair own = make_pair(SELF, V4);
      talk(own, 1);
      close_pair(own);
      _exit(0);
    }
    reap(child);
  }
  is_over = 1;
  CHECK(pthread_join(threads[0], NULL) == 0);
  talk(q, 1);
  close_pair(q);
  close_pair(p);
}

int main(int count, char** arguments) {
  const char* const what = count > 1 ? arguments[1] : "";
  if (strcmp(what, "unread") == 0) {
    run_each("exec with unread", exec_with_unread);
    become_cat = vfork_cat;
    run_each("vfork with unread", exec_with_unread);
    become_cat = spawn_cat;
    run_each("spawn with unread", exec_with_unread);
  } else if (strcmp(what, "passed") == 0) {
    run_each("passed", passed);
  } else if (strcmp(what, "exec") == 0) {
    run_each("vfork child", vfork_child);
    run_each("exec with socket", exec_with_socket);
  } else if (strcmp(what, "servers") == 0) {
    run_with("helper forked", SELF, helper_forked);
    run_with("fork per connection", SELF, fork_per_connection);
    run_with("preforked", SELF, preforked);
    run_with("fork beside threads", SELF, fork_beside_threads);
  } else {
    run_each("by turns", by_turns);
    run_each("both write", both_write);
    run_each("handed over", handed_over);
    run_each("grandchild", grandchild);
    run_each("child exits", child_exits);
  }
  return 0;
}
