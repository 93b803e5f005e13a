/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors that are closed where no library can see it, and whose number then
 * means something else: no byte may go to, or come from, what stood there. */
#include "ends.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/wait.h>

#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE (1U << 1)
#endif

/* A system call past libc and whoever stands before it. */
static long unseen(long number, long a, long b, long c) {
#if defined(__x86_64__)
  long answer;
  __asm__ volatile("syscall"
                   : "=a"(answer)
                   : "a"(number), "D"(a), "S"(b), "d"(c)
                   : "rcx", "r11", "memory");
  return answer;
#elif defined(__aarch64__)
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
  return x0;
#else
  return syscall(number, a, b, c);
#endif
}

static void ended(struct end at) {
  char byte;
  CHECK(end_recv(at, &byte, 1, 0) == 0);
}

/* Each way to make a descriptor gives the number of a connection that is gone;
 * what is written there must not come out at its peer. */
enum { WAYS = 9 };
static int make_one(int way, int* other) {
  int ends[2];
  char name[] = "/dev/shm/dibsock-test-XXXXXX";
  *other = -1;
  switch (way) {
    case 0: return open("/dev/null", O_RDWR | O_CLOEXEC);
    case 1: return openat(AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC);
    case 2: return memfd_create("file", MFD_CLOEXEC);
    case 3: return eventfd(0, EFD_CLOEXEC);
    case 4:
      CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
      *other = ends[1];
      return ends[0];
    case 5:
      CHECK(pipe(ends) == 0);
      *other = ends[0];
      return ends[1];
    case 6: {
      const int made = mkstemp(name);
      CHECK(made >= 0 && unlink(name) == 0);
      return made;
    }
    case 7: return dup(0);
    default: return (int)syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC);
  }
}

static void number_given_anew(struct pair p) {
  const enum pairing how = p.theirs.by == NULL ? SELF : AS_CLIENT;
  const char bytes[8] = {1};
  for (int way = 0; way < WAYS; ++way) {
    const struct pair q = make_pair(how, V4);
    if (is_warm) warm_up(q);
    int fillers[64];
    int count = 0;
    do {
      fillers[count] = dup(0);
      CHECK(fillers[count] >= 0 && count < 63);
    } while (fillers[count++] < q.ours.fd);
    CHECK(unseen(SYS_close, q.ours.fd, 0, 0) == 0);
    int other;
    const int made = make_one(way, &other);
    CHECK(made == q.ours.fd || other == q.ours.fd);
    /* Whatever comes of it. */
    const ssize_t sent = way == 7 ? 0 : write(q.ours.fd, bytes, sizeof bytes);
    CHECK(way == 7 || sent == sizeof bytes || (way == 5 && sent == -1 && errno == EBADF));
    ended(q.theirs);
    CHECK(close(made) == 0 && (other < 0 || close(other) == 0));
    CHECK(end_close(q.theirs) == 0);
    while (count > 0) CHECK(close(fillers[--count]) == 0);
  }
  close_pair(p);
}

/* Not even the new number comes from libc: another connection takes the place
 * of the old one, or a file does. After a while that is found out. But bytes past
 * the library in the middle of a handshake end the connection, and when it is at its
 * worst there may be one at any time. */
static void replaced_unseen(struct pair p) {
  if (is_rough()) {
    close_pair(p);
    return;
  }
  const struct pair q = make_pair(AS_CLIENT, V4);
  warm_up(q);
  CHECK(unseen(SYS_dup3, q.ours.fd, p.ours.fd, O_CLOEXEC) == p.ours.fd);
  pause_ms(30); /* it is about a number that was not used for a while */
  const struct pair same = {p.ours, q.theirs};
  end_put(same.ours, 100, 2, 0);
  ended(p.theirs);
  end_take(same.theirs, 100, 2, 0);
  CHECK(unseen(SYS_close, p.ours.fd, 0, 0) == 0);
  const int file = memfd_create("file", MFD_CLOEXEC);
  CHECK(file >= 0);
  if (file != p.ours.fd) {
    CHECK(unseen(SYS_dup3, file, p.ours.fd, O_CLOEXEC) == p.ours.fd);
    close(file);
  }
  CHECK(write(p.ours.fd, "hello", 5) == 5);
  char bytes[8];
  CHECK(lseek(p.ours.fd, 0, SEEK_SET) == 0 && read(p.ours.fd, bytes, 8) == 5);
  CHECK(memcmp(bytes, "hello", 5) == 0);
  CHECK(close(p.ours.fd) == 0);
  end_put(q.ours, 100, 1, 0);
  end_take(q.theirs, 100, 1, 0);
  close_pair(q);
  CHECK(end_close(p.theirs) == 0);
}

/* A file stands there now, in the middle of a busy connection's life. */
static void file_in_its_place(struct pair p) {
  const int file = memfd_create("file", MFD_CLOEXEC);
  CHECK(file >= 0);
  CHECK(unseen(SYS_dup3, file, p.ours.fd, O_CLOEXEC) == p.ours.fd);
  pause_ms(30);
  struct iovec part = {"bytes", 5};
  CHECK(writev(p.ours.fd, &part, 1) == 5 && write(p.ours.fd, "more", 4) == 4);
  CHECK(send(p.ours.fd, "x", 1, 0) == -1 && errno == ENOTSOCK);
  struct stat status;
  CHECK(fstat(file, &status) == 0 && status.st_size == 9);
  ended(p.theirs);
  CHECK(close(p.ours.fd) == 0 && close(file) == 0);
  CHECK(end_close(p.theirs) == 0);
}

/* ---- tables of one thread -------------------------------------------------- */

struct split {
  struct pair p;
  int way;
};

/* This thread's table is its own: what it closes, others keep. */
static void* in_own_table(void* argument) {
  const struct split* const s = argument;
  if (s->way == 0) {
    CHECK(unshare(CLONE_FILES) == 0);
    CHECK(close(s->p.ours.fd) == 0);
  } else {
    CHECK(close_range((unsigned)s->p.ours.fd, (unsigned)s->p.ours.fd, CLOSE_RANGE_UNSHARE) == 0);
  }
  int file = -1;
  while (file < s->p.ours.fd) { /* lower numbers may be free, too */
    file = memfd_create("file", MFD_CLOEXEC);
    CHECK(file >= 0);
  }
  CHECK(file == s->p.ours.fd);
  CHECK(write(file, "mine", 4) == 4);
  CHECK(lseek(file, 0, SEEK_CUR) == 4);
  return NULL;
}

static void own_tables(struct pair p) {
  if (p.theirs.by == NULL) { /* the table would have both ends */
    close_pair(p);
    return;
  }
  static int way;
  /* In a process of its own, because there is no way back from that. */
  fflush(NULL);
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    struct split s = {p, way};
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, in_own_table, &s) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    for (int i = 0; i < 20; ++i) {
      end_put(p.ours, 100, 1, 0);
      end_take(p.theirs, 100, 1, 0);
      end_put(p.theirs, 100, 2, 0);
      end_take(p.ours, 100, 2, 0);
    }
    const struct pair next = make_pair(SELF, V4);
    warm_up(next);
    close_pair(next);
    _exit(0);
  }
  way = 1 - way;
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  close_pair(p);
}

int main(void) {
  run_each("number given anew", number_given_anew);
  run_each("replaced unseen", replaced_unseen);
  run_each("file in its place", file_in_its_place);
  run_each("own tables", own_tables);
  return 0;
}
