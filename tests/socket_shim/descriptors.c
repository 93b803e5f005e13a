/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers: copies of a socket under other ones, numbers that are closed in
 * bulk and taken again, and what stdio does with one. */
#include "ends.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

static void talk(struct pair p) {
  end_put(p.ours, 3000, 1, 0);
  end_take(p.theirs, 3000, 1, 0);
  end_put(p.theirs, 3000, 2, 0);
  end_take(p.ours, 3000, 2, 0);
}

/* Each copy is the socket; the last close ends it. */
static void copies(struct pair p) {
  char byte;
  int numbers[6] = {p.ours.fd};
  numbers[1] = dup(p.ours.fd);
  numbers[2] = fcntl(p.ours.fd, F_DUPFD, 200);
  numbers[3] = fcntl(numbers[1], F_DUPFD_CLOEXEC, 300);
  numbers[4] = dup2(numbers[2], 77);
  numbers[5] = dup3(numbers[3], 78, O_CLOEXEC);
  CHECK(numbers[1] >= 0 && numbers[2] >= 200 && numbers[3] >= 300);
  CHECK(numbers[4] == 77 && numbers[5] == 78);
  CHECK(fcntl(78, F_GETFD) == FD_CLOEXEC && fcntl(77, F_GETFD) == 0);
  CHECK(dup3(78, 78, 0) == -1 && errno == EINVAL);
  CHECK(dup2(78, 78) == 78);
  CHECK(dup2(4000, 78) == -1 && errno == EBADF);
  for (int i = 0; i < 6; ++i) {
    p.ours.fd = numbers[i];
    talk(p);
    /* What one copy does to the socket holds for all. */
    set_nonblocking(numbers[i], 1);
    CHECK(recv(numbers[(i + 1) % 6], &byte, 1, 0) == -1 && errno == EAGAIN);
    set_nonblocking(numbers[i], 0);
  }
  for (int i = 0; i < 5; ++i) {
    CHECK(close(numbers[i]) == 0);
    p.ours.fd = numbers[i + 1];
    talk(p);
  }
  CHECK(close(numbers[5]) == 0);
  CHECK(end_recv(p.theirs, &byte, 1, 0) == 0);
  CHECK(end_close(p.theirs) == 0);
}

/* dup2 over a socket closes it. */
static void dup_over(struct pair p) {
  char byte;
  const struct pair other = make_pair(SELF, V4);
  warm_up(other);
  CHECK(dup2(other.ours.fd, p.ours.fd) == p.ours.fd);
  CHECK(end_recv(p.theirs, &byte, 1, 0) == 0);
  const struct pair same = {p.ours, other.theirs};
  talk(same);
  CHECK(end_close(other.ours) == 0);
  talk(same);
  close_pair(same);
  CHECK(end_close(p.theirs) == 0);
}

/* A number that was a socket is something else now. */
static void taken_again(struct pair p) {
  const int number = p.ours.fd;
  CHECK(close(number) == 0);
  int ends[2];
  CHECK(pipe(ends) == 0);
  if (ends[1] == number) {
    ends[1] = dup(ends[1]);
    CHECK(dup2(ends[0], number) == number && close(ends[0]) == 0);
    ends[0] = number;
  } else if (ends[0] != number) {
    CHECK(dup2(ends[0], number) == number);
  }
  CHECK(write(ends[1], "hello", 5) == 5);
  char bytes[8];
  CHECK(read(number, bytes, 8) == 5 && memcmp(bytes, "hello", 5) == 0);
  CHECK(recv(number, bytes, 8, 0) == -1 && errno == ENOTSOCK);
  close(ends[0]);
  close(ends[1]);
  if (ends[0] != number) close(number);
  CHECK(end_close(p.theirs) == 0);
}

/* The same when the close was one that no library sees. */
static void closed_unseen(struct pair p) {
  const int number = p.ours.fd;
  char bytes[8];
  CHECK(syscall(SYS_close, number) == 0);
  CHECK(end_recv(p.theirs, bytes, 1, 0) == 0);
  const int file = memfd_create("file", MFD_CLOEXEC);
  CHECK(file >= 0 && write(file, "descriptors", 11) == 11 && lseek(file, 0, SEEK_SET) == 0);
  if (file != number) {
    CHECK(syscall(SYS_dup2, file, number) == number);
    close(file);
  }
  CHECK(read(number, bytes, 4) == 4 && memcmp(bytes, "desc", 4) == 0);
  CHECK(poll_one(number, POLLIN, 0) == POLLIN);
  struct stat status;
  CHECK(fstat(number, &status) == 0 && S_ISREG(status.st_mode));
  CHECK(syscall(SYS_close, number) == 0);
  /* And once more as a socket. */
  struct pair next = make_pair(SELF, V4);
  if (next.ours.fd != number && next.theirs.fd != number) {
    CHECK(syscall(SYS_dup2, next.ours.fd, number) == number);
    CHECK(syscall(SYS_close, next.ours.fd) == 0);
    next.ours.fd = number;
  }
  warm_up(next);
  talk(next);
  close_pair(next);
  CHECK(end_close(p.theirs) == 0);
}

/* Everything but a few is closed, as daemons and runtimes do; whatever a
 * library kept open for itself is gone, and the program goes on. */
static void all_closed(struct pair p) {
  static int how;
  const int fd = p.ours.fd;
  const int keep_to = 20; /* all that this program has open */
  CHECK(fd < keep_to && p.theirs.fd < keep_to);
  for (int round = 0; round < 3; ++round) {
    talk(p);
    switch (how++ % 4) {
      case 0: CHECK(close_range((unsigned)keep_to + 1, ~0U, 0) == 0); break;
      case 1: closefrom(keep_to + 1); break;
      case 2:
        for (int i = keep_to + 1; i < 5000; ++i) close(i);
        break;
      case 3:
        for (int i = keep_to + 1; i < 5000; ++i) syscall(SYS_close, i);
        break;
    }
    talk(p);
    CHECK(poll_one(fd, POLLIN, 20) == 0);
    end_put(p.theirs, 10, 5, 0);
    CHECK(poll_one(fd, POLLIN, 5000) == POLLIN);
    end_take(p.ours, 10, 5, 0);
    const struct pair other = make_pair(SELF, V4);
    warm_up(other);
    close_pair(other);
  }
  close_pair(p);
}

/* Numbers that a library may have thought its own are the program's now: they
 * must stay what the program made of them. */
static void high_numbers_are_ours(struct pair p) {
  enum { FIRST = 1000, COUNT = 120 };
  talk(p);
  CHECK(poll_one(p.ours.fd, POLLIN, 10) == 0);
  struct stat before;
  const int file = open("/dev/null", O_RDWR | O_CLOEXEC);
  CHECK(file >= 0 && fstat(file, &before) == 0);
  for (int i = 0; i < COUNT; ++i) CHECK(dup2(file, FIRST + i) == FIRST + i);
  for (int round = 0; round < 3; ++round) {
    talk(p);
    CHECK(poll_one(p.ours.fd, POLLIN, 10) == 0);
    const struct pair other = make_pair(SELF, V4);
    warm_up(other);
    close_pair(other);
    for (int i = 0; i < COUNT; ++i) {
      struct stat now;
      CHECK(fstat(FIRST + i, &now) == 0 && now.st_rdev == before.st_rdev);
    }
  }
  /* Also in a child, */
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    for (int i = 0; i < COUNT; ++i) {
      struct stat now;
      CHECK(fstat(FIRST + i, &now) == 0 && now.st_rdev == before.st_rdev);
    }
    _exit(0);
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  close(file);
  for (int i = 0; i < COUNT; ++i) close(FIRST + i);
  close_pair(p);
}

static void* wait_for_byte(void* argument) {
  char byte;
  const struct pair* const p = argument;
  CHECK(recv(p->ours.fd, &byte, 1, 0) == 1);
  return NULL;
}
/* and when a thread ends that waited once. */
static void threads_come_and_go(struct pair p) {
  struct stat before;
  const int file = open("/dev/null", O_RDWR | O_CLOEXEC);
  CHECK(file >= 0 && fstat(file, &before) == 0);
  for (int round = 0; round < 20; ++round) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, wait_for_byte, &p) == 0);
    pause_ms(2);
    if (round % 2) {
      for (int i = 1020; i < 1060; ++i) CHECK(dup2(file, i) == i);
    }
    end_put(p.theirs, 1, 1, 0);
    CHECK(pthread_join(thread, NULL) == 0);
    if (round % 2) {
      for (int i = 1020; i < 1060; ++i) {
        struct stat now;
        CHECK(fstat(i, &now) == 0 && now.st_rdev == before.st_rdev);
        CHECK(close(i) == 0);
      }
    }
  }
  close(file);
  talk(p);
  close_pair(p);
}

/* The lowest free number is what the program expects it to be. */
static void lowest_numbers(struct pair p) {
  talk(p);
  CHECK(poll_one(p.ours.fd, POLLIN, 10) == 0);
  const int first = dup(0);
  CHECK(first >= 0);
  CHECK(close(first) == 0);
  talk(p);
  for (int i = 0; i < 20; ++i) {
    const int again = open("/dev/null", O_RDONLY | O_CLOEXEC);
    CHECK(again == first);
    CHECK(close(again) == 0);
    if (p.theirs.by != NULL) {
      end_put(p.theirs, 1, 1, 0);
      CHECK(poll_one(p.ours.fd, POLLIN, 5000) == POLLIN);
      end_take(p.ours, 1, 1, 0);
    }
  }
  /* Nor is a number of ours lower than select can name. */
  int highest = p.ours.fd > first ? p.ours.fd : first;
  if (p.theirs.by == NULL && p.theirs.fd > highest) highest = p.theirs.fd;
  for (int i = highest + 1; i < 1000; ++i) CHECK(fcntl(i, F_GETFD) == -1);
  close_pair(p);
}

/* ---- stdio ------------------------------------------------------------------ */

static void with_stdio(struct pair p) {
  char line[64];
  const int copy = dup(p.ours.fd);
  FILE* const in = fdopen(p.ours.fd, "r");
  FILE* const out = fdopen(copy, "w");
  CHECK(in != NULL && out != NULL);
  for (int i = 0; i < 60; ++i) {
    CHECK(fprintf(out, "line %d\n", i) > 0 && fflush(out) == 0);
    const int size = snprintf(line, sizeof line, "line %d\n", i);
    char got[64];
    for (int have = 0; have < size;) {
      const ssize_t n = end_recv(p.theirs, got + have, (size_t)(size - have), 0);
      CHECK(n > 0);
      have += (int)n;
    }
    CHECK(memcmp(line, got, (size_t)size) == 0);
    CHECK(end_send(p.theirs, line, (size_t)size, 0) == size);
    CHECK(fgets(got, sizeof got, in) != NULL && strcmp(got, line) == 0);
  }
  CHECK(fclose(out) == 0);
  CHECK(end_shutdown(p.theirs, SHUT_WR) == 0);
  CHECK(fgetc(in) == EOF && feof(in));
  CHECK(fclose(in) == 0);
  CHECK(end_recv(p.theirs, line, 1, 0) == 0);
  CHECK(end_close(p.theirs) == 0);
}

/* With bytes on the way that came before the FILE. */
static void stdio_after_some(struct pair p) {
  char line[64];
  CHECK(end_send(p.theirs, "first\nsecond\n", 13, 0) == 13);
  for (int have = 0; have < 6;) {
    const ssize_t n = end_recv(p.ours, line + have, (size_t)(6 - have), 0);
    CHECK(n > 0);
    have += (int)n;
  }
  CHECK(memcmp(line, "first\n", 6) == 0);
  FILE* const file = fdopen(p.ours.fd, "r+");
  CHECK(file != NULL);
  CHECK(fgets(line, sizeof line, file) != NULL && strcmp(line, "second\n") == 0);
  CHECK(end_send(p.theirs, "third\n", 6, 0) == 6);
  CHECK(fgets(line, sizeof line, file) != NULL && strcmp(line, "third\n") == 0);
  CHECK(fputs("answer\n", file) >= 0 && fflush(file) == 0);
  for (int have = 0; have < 7;) {
    const ssize_t n = end_recv(p.theirs, line + have, (size_t)(7 - have), 0);
    CHECK(n > 0);
    have += (int)n;
  }
  CHECK(memcmp(line, "answer\n", 7) == 0);
  CHECK(fclose(file) == 0);
  CHECK(end_recv(p.theirs, line, 1, 0) == 0);
  CHECK(end_close(p.theirs) == 0);
}

/* ---- no numbers left --------------------------------------------------------- */

/* Nothing can be opened any more; what is open works, and new connections are
 * refused as the kernel refuses them. */
static void exhausted(struct pair p) {
  struct rlimit limit;
  CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  const struct rlimit tight = {64, limit.rlim_max};
  CHECK(setrlimit(RLIMIT_NOFILE, &tight) == 0);
  int used[64];
  int count = 0;
  while (count < 64 && (used[count] = dup(0)) >= 0) ++count;
  CHECK(count < 64 && errno == EMFILE);
  talk(p);
  CHECK(poll_one(p.ours.fd, POLLIN, 20) == 0);
  end_put(p.theirs, 10, 1, 0);
  CHECK(poll_one(p.ours.fd, POLLIN, 5000) == POLLIN);
  end_take(p.ours, 10, 1, 0);
  CHECK(socket(AF_INET, SOCK_STREAM, 0) == -1 && errno == EMFILE);
  /* Just enough for a set, or for a pair. */
  CHECK(close(used[--count]) == 0);
  const int set = epoll_create1(EPOLL_CLOEXEC);
  CHECK(set >= 0);
  struct epoll_event event = {.events = EPOLLIN};
  CHECK(epoll_ctl(set, EPOLL_CTL_ADD, p.ours.fd, &event) == 0);
  CHECK(epoll_wait(set, &event, 1, 20) == 0);
  for (int i = 0; i < 5; ++i) {
    end_put(p.theirs, 10, 1, 0);
    CHECK(epoll_wait(set, &event, 1, 5000) == 1);
    end_take(p.ours, 10, 1, 0);
  }
  CHECK(close(set) == 0);
  for (int i = 0; i < 2; ++i) CHECK(close(used[--count]) == 0);
  const struct pair other = make_pair(SELF, V4);
  warm_up(other);
  close_pair(other);
  while (count > 0) CHECK(close(used[--count]) == 0);
  CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
  warm_up(p);
  close_pair(p);
}

int main(int count, char** arguments) {
  const char* const what = count > 1 ? arguments[1] : "";
  if (strcmp(what, "stdio") == 0) {
    run_each("stdio", with_stdio);
    run_each("stdio after some", stdio_after_some);
  } else if (strcmp(what, "unseen") == 0) {
    run_each("closed unseen", closed_unseen);
  } else if (strcmp(what, "exhausted") == 0) {
    run_each("exhausted", exhausted);
  } else if (strcmp(what, "bulk") == 0) {
    run_each("lowest numbers", lowest_numbers);
    run_each("all closed", all_closed);
    run_each("high numbers are ours", high_numbers_are_ours);
    run_each("threads come and go", threads_come_and_go);
  } else {
    run_each("copies", copies);
    run_each("dup over", dup_over);
    run_each("taken again", taken_again);
  }
  return 0;
}
