/* SPDX-License-Identifier: Apache-2.0 */
/* Other names of the same calls: aliases that libc has for itself, those of
 * fortified programs, and the old ones of stdio. */
#include "ends.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/select.h>

static void* named(const char* name) {
  void* const found = dlsym(RTLD_DEFAULT, name);
  if (found == NULL) fprintf(stderr, "libc has no %s\n", name);
  CHECK(found != NULL);
  return found;
}
/* A pointer to an object is none to a function, in C. */
#define NAMED(type, name) \
  (((union {              \
     void* found;         \
     type* call;          \
   }){named(name)})       \
       .call)

typedef ssize_t read_call(int, void*, size_t);
typedef ssize_t write_call(int, const void*, size_t);
typedef ssize_t send_call(int, const void*, size_t, int);
typedef ssize_t recv_call(int, void*, size_t, int);

static void take(int fd, read_call* by, size_t size, uint32_t seed) {
  char bytes[512];
  CHECK(size <= sizeof bytes);
  for (size_t have = 0; have < size;) {
    const ssize_t n = by(fd, bytes + have, size - have);
    CHECK(n > 0);
    have += (size_t)n;
  }
  verify(bytes, size, seed, 0);
}

static ssize_t by_recv(int fd, void* to, size_t size) {
  return NAMED(recv_call, "__recv")(fd, to, size, 0);
}
static ssize_t by_read_chk(int fd, void* to, size_t size) {
  typedef ssize_t call(int, void*, size_t, size_t);
  return NAMED(call, "__read_chk")(fd, to, size, size);
}
static ssize_t by_recv_chk(int fd, void* to, size_t size) {
  typedef ssize_t call(int, void*, size_t, size_t, int);
  return NAMED(call, "__recv_chk")(fd, to, size, size, 0);
}
static ssize_t by_recvfrom_chk(int fd, void* to, size_t size) {
  typedef ssize_t call(int, void*, size_t, size_t, int, struct sockaddr*, socklen_t*);
  struct sockaddr_storage from;
  socklen_t from_size = sizeof from;
  const ssize_t got =
      NAMED(call, "__recvfrom_chk")(fd, to, size, size, 0, (struct sockaddr*)&from, &from_size);
  CHECK(from_size == 0);
  return got;
}

static void bytes_by_other_names(struct pair p) {
  read_call* const readers[] = {NAMED(read_call, "__read"), by_recv, by_read_chk, by_recv_chk,
                                by_recvfrom_chk};
  for (size_t i = 0; i < sizeof readers / sizeof *readers; ++i) {
    end_put(p.theirs, 500, 1, 0);
    take(p.ours.fd, readers[i], 500, 1);
  }
  char bytes[500];
  fill(bytes, sizeof bytes, 2, 0);
  for (int i = 0; i < 3; ++i) {
    ssize_t n = 0;
    struct iovec part = {bytes, sizeof bytes};
    struct mmsghdr message = {.msg_hdr = {.msg_iov = &part, .msg_iovlen = 1}};
    typedef int sendmmsg_call(int, struct mmsghdr*, unsigned, int);
    switch (i) {
      case 0: n = NAMED(write_call, "__write")(p.ours.fd, bytes, sizeof bytes); break;
      case 1: n = NAMED(send_call, "__send")(p.ours.fd, bytes, sizeof bytes, 0); break;
      case 2:
        CHECK(NAMED(sendmmsg_call, "__sendmmsg")(p.ours.fd, &message, 1, 0) == 1);
        n = (ssize_t)message.msg_len;
        break;
    }
    CHECK(n == sizeof bytes);
    end_take(p.theirs, sizeof bytes, 2, 0);
  }
  close_pair(p);
}

static void waits_by_other_names(struct pair p) {
  typedef int poll_call(struct pollfd*, nfds_t, int);
  typedef int poll_chk(struct pollfd*, nfds_t, int, size_t);
  typedef int ppoll_chk(struct pollfd*, nfds_t, const struct timespec*, const sigset_t*, size_t);
  typedef int select_call(int, fd_set*, fd_set*, fd_set*, struct timeval*);
  const struct timespec long_time = {5, 0};
  for (int i = 0; i < 4; ++i) {
    struct pollfd one = {p.ours.fd, POLLIN, 0};
    fd_set in;
    FD_ZERO(&in);
    FD_SET(p.ours.fd, &in);
    struct timeval wait = {5, 0};
    end_put(p.theirs, 10, 3, 0);
    switch (i) {
      case 0: CHECK(NAMED(poll_call, "__poll")(&one, 1, 5000) == 1); break;
      case 1: CHECK(NAMED(poll_chk, "__poll_chk")(&one, 1, 5000, sizeof one) == 1); break;
      case 2:
        CHECK(NAMED(ppoll_chk, "__ppoll_chk")(&one, 1, &long_time, NULL, sizeof one) == 1);
        break;
      case 3:
        CHECK(NAMED(select_call, "__select")(p.ours.fd + 1, &in, NULL, NULL, &wait) == 1);
        CHECK(FD_ISSET(p.ours.fd, &in));
        break;
    }
    if (i < 3) CHECK(one.revents == POLLIN);
    end_take(p.ours, 10, 3, 0);
  }
  close_pair(p);
}

static void numbers_by_other_names(struct pair p) {
  typedef int dup2_call(int, int);
  typedef int close_call(int);
  typedef int fcntl_call(int, int, ...);
  char byte;
  fcntl_call* const set_up[] = {NAMED(fcntl_call, "__fcntl"), NAMED(fcntl_call, "fcntl64")};
  for (int i = 0; i < 2; ++i) {
    const int copy = set_up[i](p.ours.fd, F_DUPFD_CLOEXEC, 50);
    CHECK(copy >= 50);
    CHECK(NAMED(dup2_call, "__dup2")(copy, 70) == 70);
    CHECK(set_up[i](70, F_SETFL, O_RDWR | O_NONBLOCK) == 0);
    CHECK(recv(p.ours.fd, &byte, 1, 0) == -1 && errno == EAGAIN);
    CHECK(set_up[i](70, F_SETFL, O_RDWR) == 0);
    end_put(p.theirs, 100, 4, 0);
    const struct end copied = {NULL, 70};
    end_take(copied, 100, 4, 0);
    CHECK(NAMED(close_call, "__close")(copy) == 0);
    CHECK(NAMED(close_call, "__close_nocancel")(70) == 0);
    CHECK(NAMED(close_call, "__close")(70) == -1 && errno == EBADF);
    end_put(p.ours, 100, 5, 0);
    end_take(p.theirs, 100, 5, 0);
  }
  CHECK(NAMED(close_call, "__close")(p.ours.fd) == 0);
  CHECK(end_recv(p.theirs, &byte, 1, 0) == 0);
  CHECK(end_close(p.theirs) == 0);
}

static void expect(struct end from, const char* text) {
  char bytes[64];
  const size_t size = strlen(text);
  for (size_t have = 0; have < size;) {
    const ssize_t n = end_recv(from, bytes + have, size - have, 0);
    CHECK(n > 0);
    have += (size_t)n;
  }
  CHECK(memcmp(bytes, text, size) == 0);
}

static int print_chk(int fd, const char* format, ...) {
  typedef int call(int, int, const char*, va_list);
  va_list list;
  va_start(list, format);
  const int size = NAMED(call, "__vdprintf_chk")(fd, 1, format, list);
  va_end(list);
  return size;
}

static void stdio_by_other_names(struct pair p) {
  typedef FILE* fdopen_call(int, const char*);
  typedef int fclose_call(FILE*);
  typedef int dprintf_chk(int, int, const char*, ...);
  char byte;
  CHECK(NAMED(dprintf_chk, "__dprintf_chk")(p.ours.fd, 1, "%s %d\n", "checked", 1) == 10);
  expect(p.theirs, "checked 1\n");
  CHECK(print_chk(p.ours.fd, "%s %d\n", "checked", 2) == 10);
  expect(p.theirs, "checked 2\n");
  FILE* const file = NAMED(fdopen_call, "_IO_fdopen")(p.ours.fd, "r+");
  CHECK(file != NULL && fileno(file) == p.ours.fd);
  CHECK(fprintf(file, "old name\n") == 9);
  CHECK(NAMED(fclose_call, "_IO_fclose")(file) == 0); /* flushes */
  expect(p.theirs, "old name\n");
  CHECK(end_recv(p.theirs, &byte, 1, 0) == 0);
  CHECK(end_close(p.theirs) == 0);
}

/* More than any buffer of ours or of libc holds. */
static void long_text(struct pair p) {
  static char text[50001];
  memset(text, 'x', sizeof text - 1);
  if (p.theirs.by != NULL) {
    CHECK(dprintf(p.ours.fd, "%s\n", text) == (int)sizeof text);
    static char got[sizeof text];
    size_t have = 0;
    while (have < sizeof text) {
      const ssize_t n = end_recv(p.theirs, got + have, sizeof text - have, 0);
      CHECK(n > 0);
      have += (size_t)n;
    }
    CHECK(memcmp(got, text, sizeof text - 1) == 0 && got[sizeof text - 1] == '\n');
  }
  CHECK(dprintf(p.ours.fd, "%s", "") == 0);
  close_pair(p);
}

/* The file of a connection becomes another one: that ends the connection. */
static void reopened(struct pair p) {
  char byte;
  FILE* file = fdopen(p.ours.fd, "r+");
  CHECK(file != NULL && fputs("bye\n", file) >= 0);
  const int number = fileno(file);
  file = freopen("/dev/null", "r+", file);
  CHECK(file != NULL);
  expect(p.theirs, "bye\n");
  CHECK(end_recv(p.theirs, &byte, 1, 0) == 0);
  CHECK(fileno(file) == number && read(number, &byte, 1) == 0 && write(number, "x", 1) == 1);
  CHECK(fclose(file) == 0);
  CHECK(fcloseall() == 0);
  CHECK(end_close(p.theirs) == 0);
}

/* stdio has a connection as its standard output. */
static void as_standard_output(struct pair p) {
  char byte;
  fflush(stdout);
  const int kept = dup(1);
  CHECK(kept >= 0 && dup2(p.ours.fd, 1) == 1);
  CHECK(printf("printed\n") == 8 && fflush(stdout) == 0);
  CHECK(dup2(kept, 1) == 1 && close(kept) == 0);
  expect(p.theirs, "printed\n");
  end_put(p.theirs, 1, 6, 0);
  end_take(p.ours, 1, 6, 0);
  CHECK(end_close(p.ours) == 0);
  CHECK(end_recv(p.theirs, &byte, 1, 0) == 0);
  CHECK(end_close(p.theirs) == 0);
}

int main(void) {
  run_each("bytes by other names", bytes_by_other_names);
  run_each("waits by other names", waits_by_other_names);
  run_each("numbers by other names", numbers_by_other_names);
  run_each("stdio by other names", stdio_by_other_names);
  run_each("long text", long_text);
  run_each("reopened", reopened);
  run_each("as standard output", as_standard_output);
  return 0;
}
