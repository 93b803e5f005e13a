/* SPDX-License-Identifier: Apache-2.0 */
/* The calls that programs make with syscall(). Those that no library looks at
 * must come through with all their arguments. */
#include "ends.h"

#include <fcntl.h>
#include <linux/membarrier.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

static void receives(struct pair p) {
  for (int way = 0; way < 6; ++way) {
    char bytes[300];
    struct iovec part = {bytes, sizeof bytes};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    struct mmsghdr many = {.msg_hdr = message};
    end_put(p.theirs, sizeof bytes, 1, 0);
    for (size_t have = 0; have < sizeof bytes;) {
      part = (struct iovec){bytes + have, sizeof bytes - have};
      long n = -1;
      switch (way) {
        case 0: n = syscall(SYS_read, p.ours.fd, part.iov_base, part.iov_len); break;
        case 1: n = syscall(SYS_readv, p.ours.fd, &part, 1); break;
        case 2: n = syscall(SYS_preadv2, p.ours.fd, &part, 1, -1L, -1L, 0); break;
        case 3:
          n = syscall(SYS_recvfrom, p.ours.fd, part.iov_base, part.iov_len, 0, NULL, NULL);
          break;
        case 4: n = syscall(SYS_recvmsg, p.ours.fd, &message, 0); break;
        case 5:
          CHECK(syscall(SYS_recvmmsg, p.ours.fd, &many, 1, 0, NULL) == 1);
          n = (long)many.msg_len;
          break;
      }
      CHECK(n > 0);
      have += (size_t)n;
    }
    verify(bytes, sizeof bytes, 1, 0);
  }
  close_pair(p);
}

static void sends(struct pair p) {
  char bytes[300];
  fill(bytes, sizeof bytes, 2, 0);
  const int file = memfd_create("file", MFD_CLOEXEC);
  CHECK(file >= 0 && write(file, bytes, sizeof bytes) == sizeof bytes);
  for (int way = 0; way < 7; ++way) {
    struct iovec part = {bytes, sizeof bytes};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    struct mmsghdr many = {.msg_hdr = message};
    off_t at = 0;
    long n = -1;
    switch (way) {
      case 0: n = syscall(SYS_write, p.ours.fd, bytes, sizeof bytes); break;
      case 1: n = syscall(SYS_writev, p.ours.fd, &part, 1); break;
      case 2: n = syscall(SYS_pwritev2, p.ours.fd, &part, 1, -1L, -1L, 0); break;
      case 3: n = syscall(SYS_sendto, p.ours.fd, bytes, sizeof bytes, 0, NULL, 0); break;
      case 4: n = syscall(SYS_sendmsg, p.ours.fd, &message, 0); break;
      case 5:
        CHECK(syscall(SYS_sendmmsg, p.ours.fd, &many, 1, 0) == 1);
        n = (long)many.msg_len;
        break;
      case 6: n = syscall(SYS_sendfile, p.ours.fd, file, &at, sizeof bytes); break;
    }
    CHECK(n == sizeof bytes);
    end_take(p.theirs, sizeof bytes, 2, 0);
  }
  close(file);
  close_pair(p);
}

static void waits(struct pair p) {
  const long set = syscall(SYS_epoll_create1, EPOLL_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN, .data.u64 = 0xABCDEF};
  CHECK(set >= 0 && syscall(SYS_epoll_ctl, set, EPOLL_CTL_ADD, p.ours.fd, &event) == 0);
  for (int way = 0; way < 7; ++way) {
    struct pollfd one = {p.ours.fd, POLLIN, 0};
    struct timespec wait = {5, 0};
    struct timeval wait_us = {5, 0};
    fd_set in;
    FD_ZERO(&in);
    FD_SET(p.ours.fd, &in);
    const struct {
      const sigset_t* mask;
      size_t size;
    } no_mask = {NULL, 8};
    end_put(p.theirs, 10, 3, 0);
    memset(&event, 0, sizeof event);
    switch (way) {
      case 0: CHECK(syscall(SYS_poll, &one, 1, 5000) == 1); break;
      case 1: CHECK(syscall(SYS_ppoll, &one, 1, &wait, NULL, 8) == 1); break;
      case 2: CHECK(syscall(SYS_select, p.ours.fd + 1, &in, NULL, NULL, &wait_us) == 1); break;
      case 3:
        CHECK(syscall(SYS_pselect6, p.ours.fd + 1, &in, NULL, NULL, &wait, &no_mask) == 1);
        break;
      case 4: CHECK(syscall(SYS_epoll_wait, set, &event, 1, 5000) == 1); break;
      case 5: CHECK(syscall(SYS_epoll_pwait, set, &event, 1, 5000, NULL, 8) == 1); break;
      case 6: CHECK(syscall(SYS_epoll_pwait2, set, &event, 1, &wait, NULL, 8) == 1); break;
    }
    if (way < 2) CHECK(one.revents == POLLIN);
    if (way == 2 || way == 3) CHECK(FD_ISSET(p.ours.fd, &in));
    if (way > 3) CHECK(event.events == EPOLLIN && event.data.u64 == 0xABCDEF);
    /* These tell what was left of the time, and it is not all of it. */
    if (way == 1 || way == 3) CHECK(wait.tv_sec <= 5 && wait.tv_nsec >= 0);
    end_take(p.ours, 10, 3, 0);
  }
  struct timespec short_time = {0, 20000000};
  struct pollfd one = {p.ours.fd, POLLIN, 0};
  CHECK(syscall(SYS_ppoll, &one, 1, &short_time, NULL, 8) == 0);
  CHECK(short_time.tv_sec == 0 && short_time.tv_nsec == 0);
  CHECK(syscall(SYS_close, set) == 0);
  close_pair(p);
}

static void numbers(struct pair p) {
  char byte;
  const long copy = syscall(SYS_dup, p.ours.fd);
  CHECK(copy >= 0 && syscall(SYS_dup2, copy, 60) == 60);
  CHECK(syscall(SYS_dup3, 60, 61, O_CLOEXEC) == 61);
  const long fourth = syscall(SYS_fcntl, 61, F_DUPFD_CLOEXEC, 62);
  CHECK(fourth == 62);
  int on = 1;
  int waiting = -1;
  CHECK(syscall(SYS_ioctl, 62, FIONBIO, &on) == 0);
  CHECK(recv(p.ours.fd, &byte, 1, 0) == -1 && errno == EAGAIN);
  on = 0;
  CHECK(syscall(SYS_ioctl, 62, FIONBIO, &on) == 0);
  end_put(p.theirs, 50, 4, 0);
  while (waiting != 50) CHECK(syscall(SYS_ioctl, 61, FIONREAD, &waiting) == 0);
  const struct end last = {NULL, 62};
  CHECK(syscall(SYS_close, p.ours.fd) == 0 && syscall(SYS_close, copy) == 0);
  CHECK(syscall(SYS_close_range, 60U, 61U, 0) == 0);
  end_take(last, 50, 4, 0);
  CHECK(syscall(SYS_shutdown, 62, SHUT_WR) == 0);
  CHECK(end_recv(p.theirs, &byte, 1, 0) == 0);
  CHECK(syscall(SYS_close, 62) == 0);
  CHECK(end_close(p.theirs) == 0);
}

static void copies_of_the_process(struct pair p) {
  static const long ways[] = {SYS_fork, SYS_clone};
  for (int way = 0; way < 2; ++way) {
    end_put(p.ours, 40, 5, 0);
    end_take(p.theirs, 40, 5, 0);
    fflush(NULL);
    const long child = way == 0 ? syscall(ways[way]) : syscall(ways[way], SIGCHLD, 0, 0, 0, 0);
    CHECK(child >= 0);
    if (child == 0) {
      end_put(p.ours, 40, 6, 0);
      end_take(p.theirs, 40, 6, 0);
      syscall(SYS_exit_group, 7);
    }
    int status = 0;
    CHECK(waitpid((pid_t)child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    end_put(p.theirs, 40, 7, 0);
    end_take(p.ours, 40, 7, 0);
  }
  close_pair(p);
}

/* Not for us: six arguments, the result and errno as they are. */
static void others(struct pair p) {
  CHECK(syscall(SYS_getpid) == getpid());
  errno = 0;
  CHECK(syscall(100000) == -1 && errno == ENOSYS);
  void* const page = (void*)syscall(SYS_mmap, NULL, 4096L, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS, -1L, 0L);
  CHECK(page != MAP_FAILED);
  memset(page, 1, 4096);
  CHECK(syscall(SYS_munmap, page, 4096L) == 0);
  CHECK(syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0) >= 0);
  CHECK(syscall(SYS_fcntl, -1, F_GETFD) == -1 && errno == EBADF);
  int ends[2];
  char byte;
  CHECK(syscall(SYS_pipe2, ends, O_CLOEXEC) == 0);
  CHECK(syscall(SYS_write, ends[1], "x", 1L) == 1 && syscall(SYS_read, ends[0], &byte, 1L) == 1);
  CHECK(close(ends[0]) == 0 && close(ends[1]) == 0);
  close_pair(p);
}

int main(void) {
  run_each("receives", receives);
  run_each("sends", sends);
  run_each("waits", waits);
  run_each("numbers", numbers);
  run_each("copies of the process", copies_of_the_process);
  run_each("others", others);
  return 0;
}
