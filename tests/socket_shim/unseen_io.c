/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes that others move for the program: the threads of aio_*, rings. And
 * signals that tell of bytes. */
#include "ends.h"

#include <aio.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

static void talk(struct pair p, uint32_t seed) {
  for (uint64_t at = 0; at < 8000; at += 400) {
    end_put(p.ours, 400, seed, at);
    end_take(p.theirs, 400, seed, at);
    end_put(p.theirs, 400, seed + 1, at);
    end_take(p.ours, 400, seed + 1, at);
  }
}

/* ---- aio ------------------------------------------------------------------- */

static ssize_t await_aio(struct aiocb* of) {
  const struct aiocb* const list[] = {of};
  while (aio_error(of) == EINPROGRESS) aio_suspend(list, 1, NULL);
  return aio_return(of);
}

static void with_aio(struct pair p) {
  char bytes[500];
  struct aiocb one;
  for (int round = 0; round < 4; ++round) {
    memset(&one, 0, sizeof one);
    one.aio_fildes = p.ours.fd;
    one.aio_buf = bytes;
    one.aio_nbytes = sizeof bytes;
    fill(bytes, sizeof bytes, 1, 0);
    if (round == 3) {
      struct aiocb* list[] = {&one, NULL};
      one.aio_lio_opcode = LIO_WRITE;
      CHECK(lio_listio(LIO_WAIT, list, 2, NULL) == 0);
    } else {
      CHECK(aio_write(&one) == 0);
    }
    CHECK(await_aio(&one) == sizeof bytes);
    end_take(p.theirs, sizeof bytes, 1, 0);
    end_put(p.theirs, sizeof bytes, 2, 0);
    for (size_t have = 0; have < sizeof bytes;) {
      one.aio_buf = bytes + have;
      one.aio_nbytes = sizeof bytes - have;
      CHECK(aio_read(&one) == 0);
      const ssize_t n = await_aio(&one);
      CHECK(n > 0);
      have += (size_t)n;
    }
    verify(bytes, sizeof bytes, 2, 0);
    talk(p, 3);
  }
  close_pair(p);
}

/* ---- signals --------------------------------------------------------------- */

static void await_signal(void) {
  sigset_t wanted;
  sigemptyset(&wanted);
  sigaddset(&wanted, SIGIO);
  const struct timespec wait = {5, 0};
  CHECK(sigtimedwait(&wanted, NULL, &wait) == SIGIO);
}
static void forget_signals(void) {
  sigset_t wanted;
  sigemptyset(&wanted);
  sigaddset(&wanted, SIGIO);
  const struct timespec none = {0, 0};
  while (sigtimedwait(&wanted, NULL, &none) == SIGIO) {
  }
}

static void with_signals(struct pair p) {
  static int way;
  sigset_t blocked;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGIO);
  CHECK(sigprocmask(SIG_BLOCK, &blocked, NULL) == 0);
  CHECK(fcntl(p.ours.fd, F_SETOWN, getpid()) == 0);
  int on = 1;
  if (way++ / 2 % 2 == 0) {
    CHECK(fcntl(p.ours.fd, F_SETFL, O_RDWR | O_ASYNC) == 0);
  } else {
    CHECK(ioctl(p.ours.fd, FIOASYNC, &on) == 0);
  }
  for (int i = 0; i < 20; ++i) {
    forget_signals();
    end_put(p.theirs, 10, 1, 0);
    await_signal();
    end_take(p.ours, 10, 1, 0);
    end_put(p.ours, 10, 2, 0);
    end_take(p.theirs, 10, 2, 0);
  }
  close_pair(p);
}

/* ---- rings ----------------------------------------------------------------- */

static int is_unseen; /* the ring is made past libc */

static long ring_call(long number, long a, long b, long c, long d) {
#if defined(__x86_64__)
  if (is_unseen) {
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = 0;
    register long r9 __asm__("r9") = 0;
    long answer;
    __asm__ volatile("syscall"
                     : "=a"(answer)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    if (answer < 0) errno = (int)-answer;
    return answer < 0 ? -1 : answer;
  }
#endif
  return syscall(number, a, b, c, d, 0L, 0L);
}

static struct ring {
  int fd;
  struct io_uring_params how;
  unsigned* to;
  unsigned* from;
  struct io_uring_sqe* entries;
} ring;

static int open_ring(void) {
  memset(&ring, 0, sizeof ring);
  ring.fd = (int)ring_call(SYS_io_uring_setup, 4, (long)&ring.how, 0, 0);
  if (ring.fd < 0) return 0;
  CHECK(fcntl(ring.fd, F_SETFD, FD_CLOEXEC) == 0);
  const struct io_uring_params* const how = &ring.how;
  const size_t to_size = how->sq_off.array + how->sq_entries * sizeof(unsigned);
  const size_t from_size = how->cq_off.cqes + how->cq_entries * sizeof(struct io_uring_cqe);
  const int both = PROT_READ | PROT_WRITE;
  ring.to = mmap(NULL, to_size, both, MAP_SHARED, ring.fd, IORING_OFF_SQ_RING);
  ring.from = mmap(NULL, from_size, both, MAP_SHARED, ring.fd, IORING_OFF_CQ_RING);
  ring.entries = mmap(NULL, how->sq_entries * sizeof(struct io_uring_sqe), both, MAP_SHARED,
                      ring.fd, IORING_OFF_SQES);
  CHECK(ring.to != MAP_FAILED && ring.from != MAP_FAILED && ring.entries != MAP_FAILED);
  return 1;
}

static int move_by_ring(int operation, int fd, void* bytes, size_t size) {
  const struct io_sqring_offsets* const out = &ring.how.sq_off;
  const struct io_cqring_offsets* const in = &ring.how.cq_off;
  unsigned* const tail = ring.to + out->tail / sizeof(unsigned);
  const unsigned slot = *tail & ring.to[out->ring_mask / sizeof(unsigned)];
  memset(&ring.entries[slot], 0, sizeof ring.entries[slot]);
  ring.entries[slot].opcode = (unsigned char)operation;
  ring.entries[slot].fd = fd;
  ring.entries[slot].addr = (uint64_t)(uintptr_t)bytes;
  ring.entries[slot].len = (unsigned)size;
  ring.to[out->array / sizeof(unsigned) + slot] = slot;
  __atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
  CHECK(ring_call(SYS_io_uring_enter, ring.fd, 1, 1, IORING_ENTER_GETEVENTS) == 1);
  unsigned* const head = ring.from + in->head / sizeof(unsigned);
  const struct io_uring_cqe* const done =
      (struct io_uring_cqe*)(void*)((char*)ring.from + in->cqes) +
      (*head & ring.from[in->ring_mask / sizeof(unsigned)]);
  const int answer = done->res;
  __atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
  return answer;
}

static void with_ring(struct pair p) {
  char bytes[300];
  if (is_unseen && is_warm) { /* not to be known on a connection that left TCP */
    close_pair(p);
    return;
  }
  for (int round = 0; round < 30; ++round) {
    fill(bytes, sizeof bytes, 1, 0);
    CHECK(move_by_ring(IORING_OP_SEND, p.ours.fd, bytes, sizeof bytes) == sizeof bytes);
    end_take(p.theirs, sizeof bytes, 1, 0);
    end_put(p.theirs, sizeof bytes, 2, 0);
    for (size_t have = 0; have < sizeof bytes;) {
      const int n = move_by_ring(IORING_OP_RECV, p.ours.fd, bytes + have, sizeof bytes - have);
      CHECK(n > 0);
      have += (size_t)n;
    }
    verify(bytes, sizeof bytes, 2, 0);
    /* And by calls that everybody sees. */
    end_put(p.ours, 100, 3, 0);
    end_take(p.theirs, 100, 3, 0);
    end_put(p.theirs, 100, 4, 0);
    end_take(p.ours, 100, 4, 0);
  }
  const uint64_t before = end_tcp_bytes_received(p.ours);
  end_put(p.theirs, 100, 4, 0);
  end_take(p.ours, 100, 4, 0);
  CHECK(end_tcp_bytes_received(p.ours) == before + 100);
  close_pair(p);
}

int main(int count, char** arguments) {
  const char* const what = count > 1 ? arguments[1] : "";
  if (strcmp(what, "aio") == 0) {
    run_each("aio", with_aio);
  } else if (strcmp(what, "sigio") == 0) {
    run_each("signals", with_signals);
  } else if (strcmp(what, "refused") == 0) {
    CHECK(open_ring() == (getenv("DIBSOCK_IO_URING") == NULL) || errno == EPERM);
    if (getenv("DIBSOCK_IO_URING") != NULL) CHECK(errno == ENOSYS);
    run_each("refused", close_pair);
  } else {
    is_unseen = strcmp(what, "unseen_ring") == 0;
#if !defined(__x86_64__)
    if (is_unseen) return 77;
#endif
    if (!is_unseen) { /* a connection that left TCP before comes back to it */
      const struct pair early = make_pair(AS_CLIENT, V4);
      warm_up(early);
      if (!open_ring()) return 77;
      talk(early, 5);
      talk(early, 7);
      close_pair(early);
    } else if (!open_ring()) {
      return 77;
    }
    run_each("ring", with_ring);
  }
  return 0;
}
