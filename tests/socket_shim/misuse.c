/* SPDX-License-Identifier: Apache-2.0 */
/* What libc lets programs do wrong: memory that is not there, sizes and counts
 * that cannot be. The answer is an errno, and the connection goes on. */
#include "ends.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

/* Three pages: one to use, one that nobody may touch, one read-only. */
static char* good;
static char* bad;
static char* constant;

static void map_pages(void) {
  good = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(good != MAP_FAILED);
  bad = good + 4096;
  constant = good + 8192;
  CHECK(mprotect(bad, 4096, PROT_NONE) == 0 && mprotect(constant, 4096, PROT_READ) == 0);
}

static void await_bytes(struct end at, int size) {
  while (end_ioctl(at, FIONREAD) < size) CHECK(end_poll(at, POLLIN, 5000) != 0);
}
#define FAILS(call, code)                                                    \
  do {                                                                       \
    errno = 0;                                                               \
    const long answer_ = (long)(call);                                       \
    if (answer_ != -1 || errno != (code)) fprintf(stderr, "%ld: ", answer_); \
    CHECK(answer_ == -1 && errno == (code));                                 \
  } while (0)

static void talk(struct pair p) {
  end_put(p.ours, 300, 8, 0);
  end_take(p.theirs, 300, 8, 0);
  end_put(p.theirs, 300, 9, 0);
  end_take(p.ours, 300, 9, 0);
}

static void receive_nowhere(struct pair p) {
  const int fd = p.ours.fd;
  char* const nowhere[] = {NULL, (char*)8, bad, constant, (char*)-1, (char*)0x7FFFFFFFF000};
  end_put(p.theirs, 100, 1, 0);
  await_bytes(p.ours, 100);
  for (size_t i = 0; i < sizeof nowhere / sizeof *nowhere; ++i) {
    struct iovec part = {nowhere[i], 10};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    FAILS(read(fd, nowhere[i], 10), EFAULT);
    FAILS(recv(fd, nowhere[i], 10, 0), EFAULT);
    FAILS(recv(fd, nowhere[i], 10, MSG_PEEK), EFAULT);
    FAILS(recvfrom(fd, nowhere[i], 10, 0, NULL, NULL), EFAULT);
    FAILS(readv(fd, &part, 1), EFAULT);
    FAILS(recvmsg(fd, &message, 0), EFAULT);
    FAILS(recvmsg(fd, (struct msghdr*)(void*)nowhere[i], 0), EFAULT);
    if (nowhere[i] != constant) FAILS(readv(fd, (struct iovec*)(void*)nowhere[i], 1), EFAULT);
  }
  /* Nothing was lost. Where part of the memory is there, all goes as long as
   * that is enough. */
  CHECK(recv(fd, bad - 60, 60, 0) == 60);
  verify(bad - 60, 60, 1, 0);
  FAILS(recv(fd, bad - 20, 40, 0), EFAULT);
  CHECK(recv(fd, bad - 40, 4000, MSG_PEEK) == 40);
  CHECK(recv(fd, bad - 40, 4000, 0) == 40);
  verify(bad - 40, 40, 1, 60);
  talk(p);
  close_pair(p);
}

static void send_from_nowhere(struct pair p) {
  const int fd = p.ours.fd;
  char* const nowhere[] = {NULL, (char*)8, bad, (char*)-1, (char*)0x7FFFFFFFF000};
  for (size_t i = 0; i < sizeof nowhere / sizeof *nowhere; ++i) {
    struct iovec parts[2] = {{good, 10}, {nowhere[i], 10}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    FAILS(write(fd, nowhere[i], 10), EFAULT);
    FAILS(send(fd, nowhere[i], 10, 0), EFAULT);
    FAILS(sendto(fd, nowhere[i], 10, 0, NULL, 0), EFAULT);
    FAILS(writev(fd, parts, 2), EFAULT);
    FAILS(sendmsg(fd, &message, 0), EFAULT);
    FAILS(sendmsg(fd, (struct msghdr*)(void*)nowhere[i], 0), EFAULT);
  }
  /* Far beyond all memory, but alike a page that was there a moment ago. */
  fill(good, 10, 5, 0);
  CHECK(send(fd, good, 10, 0) == 10);
  end_take(p.theirs, 10, 5, 0);
  for (int bit = 47; bit < 64; ++bit) {
    FAILS(send(fd, (char*)((uintptr_t)good | (uintptr_t)1 << bit), 10, 0), EFAULT);
  }
  /* Where less than 100 bytes go at once, these may. */
  if (!is_rough()) FAILS(send(fd, bad - 100, 200, 0), EFAULT);
  CHECK(end_poll(p.theirs, POLLIN, 20) == 0);
  fill(good, 4096, 2, 0);
  CHECK(send(fd, good, 4096, 0) == 4096);
  end_take(p.theirs, 4096, 2, 0);
  memset(good, 0, 4096);
  CHECK(send(fd, constant, 10, 0) == 10); /* to be read is enough */
  char zeros[10] = {1};
  CHECK(end_recv(p.theirs, zeros, 10, MSG_WAITALL) == 10 && zeros[0] == 0 && zeros[9] == 0);
  talk(p);
  close_pair(p);
}

/* Memory that was used a moment ago. */
static void memory_goes(struct pair p) {
  for (int way = 0; way < 2; ++way) {
    char* const page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED);
    fill(page, 100, 3, 0);
    CHECK(send(p.ours.fd, page, 100, 0) == 100);
    end_take(p.theirs, 100, 3, 0);
    end_put(p.theirs, 100, 4, 0);
    recv_all(p.ours.fd, page, 100);
    end_put(p.theirs, 100, 4, 0);
    await_bytes(p.ours, 100);
    CHECK((way == 0 ? munmap(page, 4096) : mprotect(page, 4096, PROT_READ)) == 0);
    FAILS(recv(p.ours.fd, page, 100, 0), EFAULT);
    if (way == 0) {
      FAILS(send(p.ours.fd, page, 100, 0), EFAULT);
    } else {
      CHECK(munmap(page, 4096) == 0);
    }
    end_take(p.ours, 100, 4, 0);
  }
  close_pair(p);
}

static void wrong_sizes(struct pair p) {
  const int fd = p.ours.fd;
  struct iovec part = {good, 100};
  struct iovec huge[2] = {{good, 100}, {good, (size_t)SSIZE_MAX + 1}};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1025};
  FAILS(read(fd, good, SIZE_MAX), EFAULT);
  FAILS(write(fd, good, SIZE_MAX), EFAULT);
  FAILS(readv(fd, &part, -1), EINVAL);
  FAILS(readv(fd, &part, 1025), EINVAL);
  FAILS(readv(fd, huge, 2), EINVAL);
  FAILS(writev(fd, &part, -1), EINVAL);
  FAILS(writev(fd, &part, INT_MAX), EINVAL);
  FAILS(writev(fd, huge, 2), EINVAL);
  FAILS(recvmsg(fd, &message, 0), EMSGSIZE);
  FAILS(sendmsg(fd, &message, 0), EMSGSIZE);
  message.msg_iovlen = ((size_t)1 << 32) + 1;
  FAILS(sendmsg(fd, &message, 0), EMSGSIZE);
  message.msg_iovlen = 1;
  message.msg_name = good;
  message.msg_namelen = (socklen_t)-1;
  FAILS(recvmsg(fd, &message, MSG_DONTWAIT), EINVAL);
  CHECK(readv(fd, &part, 0) == 0 && writev(fd, &part, 0) == 0);
  FAILS(preadv2(fd, &part, 1, 5, 0), ESPIPE);
  FAILS(preadv2(fd, &part, 1, -1, 0x40000000), EOPNOTSUPP);
  FAILS(pwritev2(fd, &part, 1, -1, 0x40000000), EOPNOTSUPP);
  FAILS(preadv2(fd, &part, 1, -1, RWF_NOWAIT), EAGAIN);
  FAILS(sendto(fd, good, 1, 0, (struct sockaddr*)good, 1000), EINVAL);
  FAILS(sendto(fd, good, 1, 0, (struct sockaddr*)bad, 16), EFAULT);
  end_put(p.theirs, 3, 5, 0);
  await_bytes(p.ours, 3);
  socklen_t size = (socklen_t)-1;
  FAILS(recvfrom(fd, good, 1, 0, (struct sockaddr*)bad, NULL), EFAULT);
  FAILS(recvfrom(fd, good, 1, 0, (struct sockaddr*)bad, &size), EINVAL);
  end_take(p.ours, 1, 5, 2); /* as the kernel does it, these bytes are gone */
  /* More than there is room for in memory: what came is enough. */
  end_put(p.theirs, 50, 6, 0);
  await_bytes(p.ours, 50);
  CHECK(recv(fd, good, (size_t)1 << 40, 0) == 50);
  verify(good, 50, 6, 0);
  talk(p);
  close_pair(p);
}

static void wrong_waits(struct pair p) {
  struct pollfd* const nowhere = (struct pollfd*)(void*)bad;
  struct pollfd one = {p.ours.fd, POLLIN, 0};
  const struct timespec wrong[] = {{-1, 0}, {0, -1}, {0, 1000000000}};
  struct epoll_event event = {.events = EPOLLIN};
  fd_set in;
  FAILS(poll(nowhere, 1, 0), EFAULT);
  FAILS(poll(&one, (nfds_t)-1, 0), EINVAL);
  CHECK(poll(nowhere, 0, 0) == 0);
  const int set = epoll_create1(EPOLL_CLOEXEC);
  CHECK(set >= 0 && epoll_ctl(set, EPOLL_CTL_ADD, p.ours.fd, &event) == 0);
  for (int i = 0; i < 3; ++i) {
    FD_ZERO(&in);
    FD_SET(p.ours.fd, &in);
    FAILS(ppoll(&one, 1, &wrong[i], NULL), EINVAL);
    FAILS(pselect(p.ours.fd + 1, &in, NULL, NULL, &wrong[i], NULL), EINVAL);
    FAILS(epoll_pwait2(set, &event, 1, &wrong[i], NULL), EINVAL);
  }
  struct timeval before = {-1, 0};
  FAILS(select(p.ours.fd + 1, &in, NULL, NULL, &before), EINVAL);
  FAILS(select(-1, &in, NULL, NULL, NULL), EINVAL);
  FAILS(select(p.ours.fd + 1, (fd_set*)(void*)bad, NULL, NULL, NULL), EFAULT);
  /* More microseconds than a second has are no mistake. */
  struct timeval none = {0, 0};
  struct timeval long_one = {0, 5000000};
  CHECK(select(p.ours.fd + 1, &in, NULL, NULL, &none) == 0);
  end_put(p.theirs, 10, 7, 0);
  FD_SET(p.ours.fd, &in);
  CHECK(select(p.ours.fd + 1, &in, NULL, NULL, &long_one) == 1);

  FAILS(epoll_wait(set, &event, 0, 0), EINVAL);
  FAILS(epoll_wait(set, &event, -1, 0), EINVAL);
  FAILS(epoll_wait(set, &event, INT_MAX, 0), EINVAL);
  FAILS(epoll_wait(p.ours.fd, &event, 1, 0), EINVAL);
  FAILS(epoll_wait(set, (struct epoll_event*)(void*)bad, 1, 5000), EFAULT);
  CHECK(epoll_wait(set, (struct epoll_event*)(void*)(bad - sizeof event), 10, 5000) == 1);
  FAILS(epoll_ctl(set, EPOLL_CTL_MOD, p.ours.fd, (struct epoll_event*)(void*)bad), EFAULT);
  FAILS(epoll_ctl(set, EPOLL_CTL_ADD, p.ours.fd, &event), EEXIST);
  FAILS(epoll_ctl(set, 99, p.ours.fd, &event), EINVAL);
  end_take(p.ours, 10, 7, 0);
  CHECK(close(set) == 0);
  close_pair(p);
}

/* Sets that are as short as they may be, and longer than an fd_set is. */
static void sets_of_any_length(struct pair p) {
  const int high = fcntl(p.ours.fd, F_DUPFD_CLOEXEC, 2000);
  CHECK(high >= 2000 || errno == EINVAL);
  unsigned long* const short_set = (unsigned long*)(void*)(bad - sizeof(long));
  CHECK(p.ours.fd < 64);
  end_put(p.theirs, 10, 7, 0);
  await_bytes(p.ours, 10);
  *short_set = 1UL << p.ours.fd;
  CHECK(select(p.ours.fd + 1, (fd_set*)(void*)short_set, NULL, NULL, NULL) == 1);
  CHECK(*short_set == 1UL << p.ours.fd);
  if (high >= 0) {
    unsigned long long_set[2048 / 64 + 32] = {0};
    long_set[high / 64] |= 1UL << high % 64;
    CHECK(select(high + 1, (fd_set*)(void*)long_set, NULL, NULL, NULL) == 1);
    CHECK(long_set[high / 64] == 1UL << high % 64);
    CHECK(close(high) == 0);
  }
  end_take(p.ours, 10, 7, 0);
  *short_set = 1UL << p.ours.fd;
  struct timeval none = {0, 0};
  CHECK(select(p.ours.fd + 1, (fd_set*)(void*)short_set, NULL, NULL, &none) == 0);
  CHECK(*short_set == 0);
  close_pair(p);
}

static void wrong_numbers(struct pair p) {
  char byte;
  const int gone = dup(p.ours.fd);
  CHECK(gone >= 0 && close(gone) == 0);
  struct iovec part = {&byte, 1};
  const int wrong[] = {gone, -1, -100, INT_MAX, INT_MIN};
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; ++i) {
    FAILS(read(wrong[i], &byte, 1), EBADF);
    FAILS(write(wrong[i], &byte, 1), EBADF);
    FAILS(readv(wrong[i], &part, 1), EBADF);
    FAILS(shutdown(wrong[i], SHUT_WR), EBADF);
    FAILS(close(wrong[i]), EBADF);
    FAILS(dup(wrong[i]), EBADF);
    FAILS(dup2(wrong[i], p.ours.fd), EBADF);
    FAILS(fcntl(wrong[i], F_GETFL), EBADF);
    FAILS(dprintf(wrong[i], "x"), EBADF);
    FAILS(ioctl(wrong[i], FIONREAD, &byte), EBADF);
  }
  FAILS(dup2(p.ours.fd, -1), EBADF);
  FAILS(dup3(p.ours.fd, p.ours.fd, 0), EINVAL);
  FAILS(dup3(p.ours.fd, gone, 12345), EINVAL);
  FAILS(close_range(10, 5, 0), EINVAL);
  FAILS(close_range((unsigned)p.ours.fd, (unsigned)p.ours.fd, 1 << 20), EINVAL);
  FAILS(ioctl(p.ours.fd, FIONREAD, bad), EFAULT);
  FAILS(ioctl(p.ours.fd, FIONREAD, NULL), EFAULT);
  talk(p);
  close_pair(p);
}

int main(void) {
  map_pages();
  run_each("receive nowhere", receive_nowhere);
  run_each("send from nowhere", send_from_nowhere);
  run_each("memory goes", memory_goes);
  run_each("wrong sizes", wrong_sizes);
  run_each("wrong waits", wrong_waits);
  run_each("sets of any length", sets_of_any_length);
  run_each("wrong numbers", wrong_numbers);
  return 0;
}
