/* SPDX-License-Identifier: Apache-2.0 */
/* Other processes, made in the ways that tell no library of it. Connections go
 * on in the parent, and in the child where that is a copy. */
#include "ends.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <wordexp.h>

extern char** environ;

static void talk(struct pair p, uint32_t seed) {
  for (uint64_t at = 0; at < 6000; at += 500) {
    end_put(p.ours, 500, seed, at);
    end_take(p.theirs, 500, seed, at);
    end_put(p.theirs, 500, seed + 1, at);
    end_take(p.ours, 500, seed + 1, at);
  }
}
static void reap(pid_t child, int wanted) {
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == wanted);
}
static void inherited(struct pair p, int is_on) {
  if (p.ours.by == NULL) CHECK(fcntl(p.ours.fd, F_SETFD, is_on ? 0 : FD_CLOEXEC) == 0);
}

/* ---- other programs -------------------------------------------------------- */

/* Run while the connection may be inherited, and while it is not. The program
 * does nothing with it. */
static void programs(struct pair p) {
  for (int is_inherited = 0; is_inherited < 2; ++is_inherited) {
    inherited(p, is_inherited);
    talk(p, 1);
    CHECK(system("exit 3") == 3 << 8);
    talk(p, 3);
    FILE* const from = popen("echo popen", "r");
    char line[32];
    CHECK(from != NULL && fgets(line, sizeof line, from) != NULL);
    CHECK(strcmp(line, "popen\n") == 0 && pclose(from) == 0);
    talk(p, 5);
    wordexp_t words;
    CHECK(wordexp("$(echo one two)", &words, 0) == 0 && words.we_wordc == 2);
    wordfree(&words);
    talk(p, 7);
    pid_t child = 0;
    char* const arguments[] = {"sh", "-c", "exit 5", NULL};
    CHECK(posix_spawn(&child, "/bin/sh", NULL, NULL, arguments, environ) == 0);
    reap(child, 5);
    CHECK(posix_spawnp(&child, "sh", NULL, NULL, arguments, environ) == 0);
    reap(child, 5);
    talk(p, 9);
  }
  close_pair(p);
}

/* The program gets a connection that it would not inherit, as its output. */
static void handed_over(struct pair p) {
  char bytes[6];
  pid_t child = 0;
  char* const arguments[] = {"sh", "-c", "echo hello", NULL};
  posix_spawn_file_actions_t actions;
  inherited(p, 0);
  talk(p, 1);
  CHECK(posix_spawn_file_actions_init(&actions) == 0);
  CHECK(posix_spawn_file_actions_adddup2(&actions, p.ours.fd, 1) == 0);
  CHECK(posix_spawn(&child, "/bin/sh", &actions, NULL, arguments, environ) == 0);
  reap(child, 0);
  CHECK(end_recv(p.theirs, bytes, 6, MSG_WAITALL) == 6 && memcmp(bytes, "hello\n", 6) == 0);
  CHECK(posix_spawn_file_actions_destroy(&actions) == 0);
  talk(p, 3);
  close_pair(p);
}

/* Each of the exec family, in a child that has a copy of the connection. */
static void replaced(struct pair p) {
  static char* const list[] = {"sh", "-c", "exit $CODE", NULL};
  static char* const code[] = {"CODE=9", NULL};
  CHECK(setenv("CODE", "8", 1) == 0);
  for (int way = 0; way < 9; ++way) {
    talk(p, 1);
    fflush(NULL);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
      const int shell = open("/bin/sh", O_RDONLY);
      switch (way) {
        case 0: execl("/bin/sh", "sh", "-c", "exit $CODE", NULL); break;
        case 1: execlp("sh", "sh", "-c", "exit $CODE", NULL); break;
        case 2: execle("/bin/sh", "sh", "-c", "exit $CODE", NULL, code); break;
        case 3: execv("/bin/sh", list); break;
        case 4: execvp("sh", list); break;
        case 5: execve("/bin/sh", list, code); break;
        case 6: execvpe("sh", list, code); break;
        case 7: fexecve(shell, list, code); break;
        case 8: syscall(SYS_execve, "/bin/sh", list, code); break;
      }
      _exit(1);
    }
    reap(child, way == 2 || way >= 5 ? 9 : 8);
  }
  /* One that fails leaves all as it was. */
  CHECK(execl("/no/such/program", "x", NULL) == -1 && errno == ENOENT);
  talk(p, 3);
  close_pair(p);
}

/* Run while bytes for us are unread, by a peer that makes no more calls: they are
 * still ours to read, and readiness tells of them. */
static void run_beside(int way) {
  static char* const list[] = {"sh", "-c", "exit 7", NULL};
  pid_t child = 0;
  fflush(NULL);
  switch (way) {
    case 0: CHECK(system("exit 7") == 7 << 8); return;
    case 1: CHECK(pclose(popen("exit 7", "r")) == 7 << 8); return;
    case 2: CHECK(posix_spawn(&child, "/bin/sh", NULL, NULL, list, environ) == 0); break;
    case 3: child = fork(); break;
    default: child = vfork(); break;
  }
  if (child == 0) {
    execv("/bin/sh", list);
    _exit(1);
  }
  reap(child, 7);
}
static void reading_on(struct pair p) {
  const enum pairing how = p.theirs.by != NULL ? AS_SERVER : SELF;
  close_pair(p);
  for (int way = 0; way < 5; ++way) {
    const struct pair q = make_pair(how, V4);
    doing("way %d", way);
    if (is_warm) warm_up(q);
    end_put(q.theirs, 1000, 1, 0);
    end_take(q.ours, 300, 1, 0);
    run_beside(way);
    CHECK(end_poll(q.ours, POLLIN, 0) == POLLIN);
    CHECK(end_ioctl(q.ours, FIONREAD) == 700);
    for (uint64_t at = 300; at < 700; at += 50) end_take(q.ours, 50, 1, at);
    run_beside(way);
    end_take(q.ours, 300, 1, 700);
    CHECK(end_poll(q.ours, POLLIN, 0) == 0);
    talk(q, 3);
    close_pair(q);
  }
}

/* ---- copies ---------------------------------------------------------------- */

static int child_talks(void* argument) {
  const struct pair* const p = argument;
  talk(*p, 20);
  return 4;
}

static void copies(struct pair p) {
  enum { SIZE = 256 * 1024 };
  char* const stack =
      mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
  CHECK(stack != MAP_FAILED);
  for (int round = 0; round < 2; ++round) {
    fflush(NULL);
    pid_t child = _Fork();
    CHECK(child >= 0);
    if (child == 0) {
      talk(p, 10);
      _exit(6);
    }
    reap(child, 6);
    talk(p, 12);
    child = clone(child_talks, stack + SIZE, SIGCHLD, &p);
    CHECK(child > 0);
    reap(child, 4);
    talk(p, 14);
  }
  CHECK(clone(NULL, stack + SIZE, SIGCHLD, NULL) == -1 && errno == EINVAL);
  CHECK(munmap(stack, SIZE) == 0);
  close_pair(p);
}

/* A child that shares memory and nothing else: it ends, the parent goes on. */
static int child_closes(void* argument) {
  const struct pair* const p = argument;
  close(p->ours.fd);
  return 0;
}
static void shared_memory(struct pair p) {
  enum { SIZE = 256 * 1024 };
  /* In a process of its own, because there is no way back from that. */
  fflush(NULL);
  const pid_t process = fork();
  CHECK(process >= 0);
  if (process == 0) {
    char* const stack =
        mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    CHECK(stack != MAP_FAILED);
    pid_t child = clone(child_closes, stack + SIZE, CLONE_VM | CLONE_VFORK | SIGCHLD, &p);
    CHECK(child > 0);
    reap(child, 0);
    talk(p, 1);
    child = clone(child_closes, stack + SIZE, CLONE_VM | SIGCHLD, &p);
    CHECK(child > 0);
    reap(child, 0);
    talk(p, 3);
    _exit(0);
  }
  reap(process, 0);
  talk(p, 5);
  close_pair(p);
}

/* In the ways that a process can end, the peer sees the end and every byte. */
static void ends_of_processes(struct pair p) {
  close_pair(p);
  for (int way = 0; way < 5; ++way) {
    const struct pair q = make_pair(AS_CLIENT, V4);
    if (is_warm) warm_up(q);
    fflush(NULL);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
      end_put(q.ours, 50, 1, 0);
      switch (way) {
        case 0: exit(2);
        case 1: _exit(2);
        case 2: quick_exit(2);
        case 3: _Exit(2);
        default: syscall(SYS_exit_group, 2);
      }
    }
    CHECK(close(q.ours.fd) == 0);
    reap(child, 2);
    char byte;
    end_take(q.theirs, 50, 1, 0);
    CHECK(end_recv(q.theirs, &byte, 1, 0) == 0);
    CHECK(end_close(q.theirs) == 0);
  }
}

/* daemon() leaves nothing behind at 0, 1 and 2, not even a connection. */
static void as_daemon(struct pair p) {
  if (p.theirs.by == NULL) { /* its end would stay in this process */
    close_pair(p);
    return;
  }
  fflush(NULL);
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    char byte;
    CHECK(dup3(p.ours.fd, 0, 0) == 0 && close(p.ours.fd) == 0);
    p.ours.fd = 0;
    end_put(p.ours, 50, 1, 0);
    CHECK(daemon(1, 0) == 0);
    _exit(read(0, &byte, 1) == 0 && write(0, "x", 1) == 1 ? 0 : 1);
  }
  CHECK(close(p.ours.fd) == 0);
  reap(child, 0);
  char byte;
  end_take(p.theirs, 50, 1, 0);
  CHECK(end_recv(p.theirs, &byte, 1, 0) == 0);
  CHECK(end_close(p.theirs) == 0);
}

int main(void) {
  run_each("programs", programs);
  run_each("handed over", handed_over);
  run_each("replaced", replaced);
  run_each("reading on", reading_on);
  run_each("copies", copies);
  run_each("shared memory", shared_memory);
  run_each("ends of processes", ends_of_processes);
  run_each("as daemon", as_daemon);
  return 0;
}
