/* SPDX-License-Identifier: Apache-2.0 */
/* The calls that move bytes in other ways than send and recv. */
#include "ends.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

enum { PARTS = 40 };

/* Parts of different sizes, some empty, over one piece of memory. */
static size_t cut(struct iovec* parts, char* memory) {
  size_t used = 0;
  for (int i = 0; i < PARTS; ++i) {
    parts[i].iov_base = memory + used;
    parts[i].iov_len = i % 7 == 3 ? 0 : (size_t)(i * i * 5 + 1);
    used += parts[i].iov_len;
  }
  return used;
}

static void skip_bytes(struct iovec* parts, size_t n) {
  for (int i = 0; n > 0; ++i) {
    CHECK(i < PARTS);
    const size_t here = n < parts[i].iov_len ? n : parts[i].iov_len;
    parts[i].iov_base = (char*)parts[i].iov_base + here;
    parts[i].iov_len -= here;
    n -= here;
  }
}

static char memory[PARTS * (PARTS * PARTS * 5 + 1)];

static void with_writev(struct pair p) {
  struct iovec parts[PARTS];
  uint64_t at = 0;
  for (int round = 0; round < 20; ++round) {
    const size_t size = cut(parts, memory);
    fill(memory, size, 1, at);
    size_t done = 0;
    while (done < size) {
      ssize_t n = 0;
      struct msghdr message = {.msg_iov = parts, .msg_iovlen = PARTS};
      switch (round % 3) {
        case 0: n = writev(p.ours.fd, parts, PARTS); break;
        case 1: n = sendmsg(p.ours.fd, &message, 0); break;
        case 2: n = pwritev2(p.ours.fd, parts, PARTS, -1, 0); break;
      }
      CHECK(n > 0);
      skip_bytes(parts, (size_t)n);
      done += (size_t)n;
    }
    end_take(p.theirs, size, 1, at);
    at += size;
  }
  close_pair(p);
}

static void with_readv(struct pair p) {
  struct iovec parts[PARTS];
  uint64_t at = 0;
  for (int round = 0; round < 20; ++round) {
    const size_t size = cut(parts, memory);
    end_put(p.theirs, size, 2, at);
    size_t done = 0;
    while (done < size) {
      ssize_t n = 0;
      struct sockaddr_storage from;
      char control[64];
      struct msghdr message = {.msg_iov = parts,
                               .msg_iovlen = PARTS,
                               .msg_name = &from,
                               .msg_namelen = sizeof from,
                               .msg_control = control,
                               .msg_controllen = sizeof control,
                               .msg_flags = -1};
      switch (round % 3) {
        case 0: n = readv(p.ours.fd, parts, PARTS); break;
        case 1:
          n = recvmsg(p.ours.fd, &message, 0);
          CHECK(message.msg_namelen == 0 && message.msg_controllen == 0);
          CHECK((message.msg_flags & ~MSG_CMSG_CLOEXEC) == 0);
          break;
        case 2: n = preadv2(p.ours.fd, parts, PARTS, -1, 0); break;
      }
      CHECK(n > 0);
      skip_bytes(parts, (size_t)n);
      done += (size_t)n;
    }
    verify(memory, size, 2, at);
    at += size;
  }
  close_pair(p);
}

static void many_messages(struct pair p) {
  enum { COUNT = 8, SIZE = 700 };
  static char bytes[COUNT][SIZE];
  struct iovec parts[COUNT];
  struct mmsghdr messages[COUNT];
  memset(messages, 0, sizeof messages);
  for (int i = 0; i < COUNT; ++i) {
    fill(bytes[i], SIZE, 3, (uint64_t)i * SIZE);
    parts[i] = (struct iovec){bytes[i], SIZE};
    messages[i].msg_hdr.msg_iov = &parts[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  CHECK(sendmmsg(p.ours.fd, messages, COUNT, 0) == COUNT);
  for (int i = 0; i < COUNT; ++i) CHECK(messages[i].msg_len == SIZE);
  end_take(p.theirs, COUNT * SIZE, 3, 0);

  end_put(p.theirs, COUNT * SIZE, 4, 0);
  size_t have = 0;
  while (have < COUNT * SIZE) {
    const int got = recvmmsg(p.ours.fd, messages, COUNT, MSG_WAITFORONE, NULL);
    CHECK(got > 0);
    for (int i = 0; i < got; ++i) {
      verify(bytes[i], messages[i].msg_len, 4, have);
      have += messages[i].msg_len;
    }
  }
  CHECK(have == COUNT * SIZE);
  CHECK(recvmmsg(p.ours.fd, messages, COUNT, MSG_DONTWAIT, NULL) == -1 && errno == EAGAIN);
  close_pair(p);
}

/* The time counts from message to message, and the end of the stream is one. */
static void many_messages_end(struct pair p) {
  enum { COUNT = 4 };
  char bytes[COUNT][100];
  struct iovec parts[COUNT];
  struct mmsghdr messages[COUNT];
  struct timespec wait = {5, 0};
  const struct timespec wrong = {0, -1};
  memset(messages, 0, sizeof messages);
  for (int i = 0; i < COUNT; ++i) {
    parts[i] = (struct iovec){bytes[i], sizeof bytes[i]};
    messages[i].msg_hdr.msg_iov = &parts[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  struct timespec bad = wrong;
  CHECK(recvmmsg(p.ours.fd, messages, COUNT, MSG_DONTWAIT, &bad) == -1 && errno == EINVAL);
  end_put(p.theirs, 250, 9, 0);
  while (end_ioctl(p.ours, FIONREAD) < 250) CHECK(end_poll(p.ours, POLLIN, 5000) != 0);
  CHECK(recvmmsg(p.ours.fd, messages, COUNT, MSG_WAITFORONE, &wait) == 3);
  CHECK(messages[0].msg_len == 100 && messages[1].msg_len == 100 && messages[2].msg_len == 50);
  CHECK(wait.tv_sec == 4);
  verify(bytes[0], 100, 9, 0);
  verify(bytes[2], 50, 9, 200);
  end_put(p.theirs, 100, 9, 0);
  while (end_ioctl(p.ours, FIONREAD) < 100) CHECK(end_poll(p.ours, POLLIN, 5000) != 0);
  wait = (struct timespec){0, 0}; /* over with the first message */
  CHECK(recvmmsg(p.ours.fd, messages, COUNT, 0, &wait) == 1 && messages[0].msg_len == 100);
  CHECK(recvmmsg(p.ours.fd, messages, 0, 0, NULL) == 0);
  CHECK(end_shutdown(p.theirs, SHUT_WR) == 0);
  CHECK(recvmmsg(p.ours.fd, messages, COUNT, 0, NULL) == COUNT);
  CHECK(messages[0].msg_len == 0 && messages[COUNT - 1].msg_len == 0);
  close_pair(p);
}

static void without_waiting(struct pair p) {
  char bytes[100];
  /* So few go in whole or not at all, also through the smallest ring. */
  const size_t size = is_rough() ? 20 : sizeof bytes;
  struct iovec part = {bytes, size};
  CHECK(preadv2(p.ours.fd, &part, 1, -1, RWF_NOWAIT) == -1 && errno == EAGAIN);
  fill(bytes, size, 10, 0);
  CHECK(pwritev2(p.ours.fd, &part, 1, -1, RWF_NOWAIT) == (ssize_t)size);
  end_take(p.theirs, size, 10, 0);
  end_put(p.theirs, size, 11, 0);
  while (end_ioctl(p.ours, FIONREAD) < (int)size) CHECK(end_poll(p.ours, POLLIN, 5000));
  CHECK(preadv2(p.ours.fd, &part, 1, -1, RWF_NOWAIT) == (ssize_t)size);
  verify(bytes, size, 11, 0);
  close_pair(p);
}

/* What cannot be sent is an error, and nothing is lost by it. */
static void refused_files(struct pair p) {
  int ends[2];
  const int directory = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const int closed = dup(directory);
  const int to_write = open("/dev/null", O_WRONLY | O_CLOEXEC);
  const int file = memfd_create("file", MFD_CLOEXEC);
  CHECK(pipe(ends) == 0 && write(ends[1], "pipe", 4) == 4 && close(closed) == 0);
  CHECK(file >= 0 && write(file, "0123456789", 10) == 10);
  off_t at = 0;
  off_t before = -5;
  CHECK(sendfile(p.ours.fd, closed, NULL, 10) == -1 && errno == EBADF);
  CHECK(sendfile(p.ours.fd, to_write, NULL, 10) == -1 && errno == EBADF);
  CHECK(sendfile(p.ours.fd, ends[0], NULL, 10) == -1 && errno == EINVAL);
  CHECK(sendfile(p.ours.fd, ends[0], &at, 10) == -1 && errno == ESPIPE);
  CHECK(sendfile(p.ours.fd, directory, NULL, 10) == -1 && errno == EINVAL);
  CHECK(sendfile(p.ours.fd, file, &before, 10) == -1 && errno == EINVAL);
  CHECK(sendfile(p.ours.fd, file, (off_t*)8, 10) == -1 && errno == EFAULT);
  CHECK(sendfile(p.ours.fd, file, &at, 0) == 0 && at == 0);
  CHECK(sendfile(p.ours.fd, file, NULL, 5) == 0); /* stands at its end */
  CHECK(end_poll(p.theirs, POLLIN, 20) == 0);
  at = 2;
  char bytes[8];
  CHECK(sendfile(p.ours.fd, file, &at, 100) == 8 && at == 10);
  CHECK(end_recv(p.theirs, bytes, 8, MSG_WAITALL) == 8 && memcmp(bytes, "23456789", 8) == 0);
  loff_t from = 0;
  CHECK(copy_file_range(file, &from, p.ours.fd, NULL, 5, 0) == -1 && errno == EINVAL);
  CHECK(tee(p.ours.fd, ends[1], 5, 0) == -1 && errno == EINVAL);
  CHECK(close(directory) == 0 && close(to_write) == 0 && close(file) == 0);
  CHECK(close(ends[0]) == 0 && close(ends[1]) == 0);
  close_pair(p);
}

/* Out of a connection, through a pipe, as proxies do. */
static void socket_to_pipe(struct pair p) {
  enum { SIZE = 100000 };
  static char bytes[SIZE];
  int ends[2];
  loff_t at = 0;
  if (p.theirs.by == NULL) { /* needs a writer besides */
    close_pair(p);
    return;
  }
  CHECK(pipe(ends) == 0);
  set_nonblocking(p.ours.fd, 1); /* the flag is for the pipe */
  CHECK(splice(p.ours.fd, NULL, ends[1], NULL, SIZE, SPLICE_F_NONBLOCK) == -1 && errno == EAGAIN);
  set_nonblocking(p.ours.fd, 0);
  CHECK(splice(p.ours.fd, &at, ends[1], NULL, SIZE, 0) == -1 && errno == EINVAL);
  CHECK(splice(p.ours.fd, NULL, p.ours.fd, NULL, SIZE, 0) == -1 && errno == EINVAL);
  begin_put(p.theirs, SIZE, 12, 0);
  for (size_t have = 0; have < SIZE;) {
    const ssize_t moved = splice(p.ours.fd, NULL, ends[1], NULL, SIZE, SPLICE_F_MOVE);
    CHECK(moved > 0);
    for (ssize_t left = moved; left > 0;) {
      const ssize_t n = read(ends[0], bytes + have, (size_t)left);
      CHECK(n > 0);
      have += (size_t)n;
      left -= n;
    }
  }
  finish_put(p.theirs);
  verify(bytes, SIZE, 12, 0);
  /* A pipe that is full takes nothing, and nothing is lost. */
  CHECK(fcntl(ends[1], F_SETFL, O_WRONLY | O_NONBLOCK) == 0);
  while (write(ends[1], bytes, 4096) > 0) {
  }
  end_put(p.theirs, 100, 13, 0);
  CHECK(end_poll(p.ours, POLLIN, 5000) == POLLIN);
  CHECK(splice(p.ours.fd, NULL, ends[1], NULL, SIZE, SPLICE_F_NONBLOCK) == -1 && errno == EAGAIN);
  end_take(p.ours, 100, 13, 0);
  CHECK(close(ends[0]) == 0 && close(ends[1]) == 0);
  CHECK(end_shutdown(p.theirs, SHUT_WR) == 0);
  CHECK(pipe(ends) == 0 && splice(p.ours.fd, NULL, ends[1], NULL, SIZE, 0) == 0);
  CHECK(close(ends[0]) == 0 && close(ends[1]) == 0);
  close_pair(p);
}

static void file_to_socket(struct pair p) {
  enum { SIZE = 700001 };
  if (p.theirs.by == NULL) { /* needs a reader besides */
    close_pair(p);
    return;
  }
  const int file = memfd_create("file", MFD_CLOEXEC);
  CHECK(file >= 0 && ftruncate(file, SIZE) == 0);
  char* bytes = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  CHECK(bytes != MAP_FAILED);
  fill(bytes, SIZE, 5, 0);

  /* With an offset of ours: the file's own does not move. */
  begin_take(p.theirs, SIZE - 1000, 5, 1000);
  off_t at = 1000;
  while (at < SIZE) CHECK(sendfile(p.ours.fd, file, &at, SIZE) > 0);
  finish_take(p.theirs);
  CHECK(at == SIZE && lseek(file, 0, SEEK_CUR) == 0);
  CHECK(sendfile(p.ours.fd, file, &at, SIZE) == 0);

  /* With the file's own. */
  begin_take(p.theirs, SIZE, 5, 0);
  size_t done = 0;
  while (done < SIZE) {
    const ssize_t n = sendfile(p.ours.fd, file, NULL, SIZE);
    CHECK(n > 0);
    done += (size_t)n;
    CHECK(lseek(file, 0, SEEK_CUR) == (off_t)done);
  }
  finish_take(p.theirs);
  munmap(bytes, SIZE);
  close(file);
  warm_up(p);
  close_pair(p);
}

static void read_and_write(struct pair p) {
  char bytes[100];
  fill(bytes, 100, 6, 0);
  CHECK(write(p.ours.fd, bytes, 100) == 100);
  end_take(p.theirs, 100, 6, 0);
  end_put(p.theirs, 100, 7, 0);
  size_t have = 0;
  while (have < 100) {
    const ssize_t n = read(p.ours.fd, bytes + have, 100 - have);
    CHECK(n > 0);
    have += (size_t)n;
  }
  verify(bytes, 100, 7, 0);
  /* A stream has no place to seek to. */
  CHECK(pread(p.ours.fd, bytes, 1, 0) == -1 && errno == ESPIPE);
  CHECK(lseek(p.ours.fd, 0, SEEK_CUR) == -1 && errno == ESPIPE);
  struct sockaddr_storage from;
  socklen_t size = sizeof from;
  end_put(p.theirs, 1, 7, 0);
  CHECK(recvfrom(p.ours.fd, bytes, 1, 0, (struct sockaddr*)&from, &size) == 1);
  CHECK(sendto(p.ours.fd, bytes, 1, 0, NULL, 0) == 1);
  end_take(p.theirs, 1, 7, 0);
  close_pair(p);
}

/* splice needs a pipe at one end; what it cannot do is an error, no loss. */
static void pipe_to_socket(struct pair p) {
  int ends[2];
  char bytes[3000];
  CHECK(pipe(ends) == 0);
  fill(bytes, sizeof bytes, 8, 0);
  CHECK(write(ends[1], bytes, sizeof bytes) == sizeof bytes);
  size_t done = 0;
  while (done < sizeof bytes) {
    const ssize_t n = splice(ends[0], NULL, p.ours.fd, NULL, sizeof bytes - done, 0);
    CHECK(n > 0);
    done += (size_t)n;
  }
  end_take(p.theirs, sizeof bytes, 8, 0);

  end_put(p.theirs, sizeof bytes, 9, 0);
  done = 0;
  while (done < sizeof bytes) {
    ssize_t n = splice(p.ours.fd, NULL, ends[1], NULL, sizeof bytes - done, 0);
    if (n < 0 && errno == EINVAL) { /* as every user of splice must expect */
      n = read(p.ours.fd, bytes, sizeof bytes - done);
      CHECK(n > 0 && write(ends[1], bytes, (size_t)n) == n);
    }
    CHECK(n > 0);
    done += (size_t)n;
  }
  done = 0;
  while (done < sizeof bytes) {
    const ssize_t n = read(ends[0], bytes + done, sizeof bytes - done);
    CHECK(n > 0);
    done += (size_t)n;
  }
  verify(bytes, sizeof bytes, 9, 0);
  close(ends[0]);
  close(ends[1]);
  warm_up(p);
  close_pair(p);
}

/* dprintf writes past every hook that a library can have. */
static void formatted(struct pair p) {
  char bytes[32];
  CHECK(dprintf(p.ours.fd, "%s %d\n", "hello", 42) == 9);
  for (size_t have = 0; have < 9;) {
    const ssize_t n = end_recv(p.theirs, bytes + have, 9 - have, 0);
    CHECK(n > 0);
    have += (size_t)n;
  }
  CHECK(memcmp(bytes, "hello 42\n", 9) == 0);
  close_pair(p);
}

int main(void) {
  run_each("writev", with_writev);
  run_each("readv", with_readv);
  run_each("many messages", many_messages);
  run_each("many messages end", many_messages_end);
  run_each("without waiting", without_waiting);
  run_each("refused files", refused_files);
  run_each("socket to pipe", socket_to_pipe);
  run_each("sendfile", file_to_socket);
  run_each("read and write", read_and_write);
  run_each("splice", pipe_to_socket);
  run_each("dprintf", formatted);
  return 0;
}
