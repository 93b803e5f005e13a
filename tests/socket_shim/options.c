/* SPDX-License-Identifier: Apache-2.0 */
/* What options and counters say of a connection. */
#include "ends.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>

static struct tcp_info info_of(int fd) {
  struct tcp_info info;
  socklen_t size = sizeof info;
  CHECK(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0);
  return info;
}

static void await_bytes(struct end at, int size) {
  while (end_ioctl(at, FIONREAD) < size) CHECK(end_poll(at, POLLIN, 5000) != 0);
}
static void await_delivery(int fd) {
  int waiting = 1;
  const uint64_t until = now_ms() + 5000;
  while (waiting != 0) {
    CHECK(ioctl(fd, SIOCOUTQ, &waiting) == 0 && now_ms() < until);
    if (waiting != 0) pause_ms(1);
  }
}

/* Every byte is counted, read or not, whatever carried it. */
static void bytes_counted(struct pair p) {
  await_delivery(p.ours.fd);
  const struct tcp_info before = info_of(p.ours.fd);
  end_put(p.theirs, 3000, 1, 0);
  await_bytes(p.ours, 3000);
  CHECK(info_of(p.ours.fd).tcpi_bytes_received - before.tcpi_bytes_received == 3000);
  end_take(p.ours, 3000, 1, 0);
  CHECK(info_of(p.ours.fd).tcpi_bytes_received - before.tcpi_bytes_received == 3000);
  end_put(p.ours, 5000, 2, 0);
  await_delivery(p.ours.fd);
  const struct tcp_info after = info_of(p.ours.fd);
  CHECK(after.tcpi_bytes_acked - before.tcpi_bytes_acked == 5000);
  CHECK(after.tcpi_bytes_sent - after.tcpi_bytes_retrans - before.tcpi_bytes_sent +
            before.tcpi_bytes_retrans ==
        5000);
  CHECK(after.tcpi_unacked == 0 && after.tcpi_notsent_bytes == 0 && after.tcpi_state == 1);
  end_take(p.theirs, 5000, 2, 0);
  /* Older programs know less of it. */
  struct tcp_info little;
  memset(&little, 0xEE, sizeof little);
  socklen_t size = offsetof(struct tcp_info, tcpi_bytes_acked) + 4;
  CHECK(getsockopt(p.ours.fd, IPPROTO_TCP, TCP_INFO, &little, &size) == 0);
  CHECK(((unsigned char*)&little)[size] == 0xEE);
  close_pair(p);
}

/* One queue has several names, and several calls tell of it. */
static void queues(struct pair p) {
  int waiting = -1;
  end_put(p.theirs, 77, 1, 0);
  await_bytes(p.ours, 77);
  CHECK(ioctl(p.ours.fd, FIONREAD, &waiting) == 0 && waiting == 77);
  CHECK(ioctl(p.ours.fd, SIOCINQ, &waiting) == 0 && waiting == 77);
  CHECK(ioctl(p.ours.fd, TIOCINQ, &waiting) == 0 && waiting == 77);
  end_take(p.ours, 77, 1, 0);
  await_delivery(p.ours.fd);
  CHECK(ioctl(p.ours.fd, TIOCOUTQ, &waiting) == 0 && waiting == 0);
  CHECK(ioctl(p.ours.fd, FIOCLEX) == 0 && fcntl(p.ours.fd, F_GETFD) == FD_CLOEXEC);
  CHECK(ioctl(p.ours.fd, FIONCLEX) == 0 && fcntl(p.ours.fd, F_GETFD) == 0);
  CHECK(isfdtype(p.ours.fd, S_IFSOCK) == 1 && isfdtype(p.ours.fd, S_IFREG) == 0);
  close_pair(p);
}

/* The mark stands behind the bytes that were sent before it. */
static void urgent_mark(struct pair p) {
  char bytes[8];
  CHECK(sockatmark(p.ours.fd) == 0);
  CHECK(end_send(p.theirs, "ab", 2, 0) == 2);
  await_bytes(p.ours, 2);
  CHECK(sockatmark(p.ours.fd) == 0);
  CHECK(end_send(p.theirs, "!", 1, MSG_OOB) == 1);
  CHECK(end_send(p.theirs, "c", 1, 0) == 1);
  CHECK(end_poll(p.ours, POLLPRI, 5000) == POLLPRI);
  int is_at_mark = 1;
  CHECK(ioctl(p.ours.fd, SIOCATMARK, &is_at_mark) == 0 && is_at_mark == 0);
  CHECK(sockatmark(p.ours.fd) == 0);
  recv_all(p.ours.fd, bytes, 2);
  CHECK(memcmp(bytes, "ab", 2) == 0);
  CHECK(sockatmark(p.ours.fd) == 1);
  CHECK(end_recv(p.ours, bytes, 1, MSG_OOB) == 1 && bytes[0] == '!');
  recv_all(p.ours.fd, bytes, 1);
  CHECK(bytes[0] == 'c');
  CHECK(sockatmark(p.ours.fd) == 0);
  close_pair(p);
}

/* An error is told once, by whoever is asked first. */
static void error_told(struct pair p) {
  char byte;
  end_put(p.ours, 10, 1, 0); /* stays unread: the close resets */
  await_bytes(p.theirs, 10);
  CHECK(end_close(p.theirs) == 0);
  CHECK(end_poll(p.ours, POLLIN, 5000) & POLLHUP);
  CHECK(end_poll(p.ours, POLLIN, 5000) & POLLERR);
  CHECK(end_get(p.ours, SOL_SOCKET, SO_ERROR) == ECONNRESET);
  CHECK(end_get(p.ours, SOL_SOCKET, SO_ERROR) == 0);
  CHECK(end_recv(p.ours, &byte, 1, 0) == 0);
  CHECK(end_close(p.ours) == 0);
}

/* What came before the error is read before it, and then it is told. */
static void error_behind_bytes(struct pair p) {
  char bytes[20];
  end_put(p.ours, 10, 1, 0);
  end_put(p.theirs, 20, 2, 0);
  await_bytes(p.theirs, 10);
  await_bytes(p.ours, 20);
  CHECK(end_close(p.theirs) == 0);
  CHECK(end_poll(p.ours, POLLIN, 5000) & POLLHUP);
  CHECK(end_get(p.ours, SOL_SOCKET, SO_ERROR) == ECONNRESET);
  CHECK(end_recv(p.ours, bytes, 20, 0) == 20);
  verify(bytes, 20, 2, 0);
  CHECK(end_recv(p.ours, bytes, 1, 0) == 0);
  CHECK(end_close(p.ours) == 0);
}

static void nothing_lost(struct pair p) {
  static const int names[] = {SO_RCVBUF, SO_SNDBUF};
  for (int i = 0; i < 2; ++i) {
    CHECK(end_set(p.ours, SOL_SOCKET, names[i], 50000) == 0);
    CHECK(end_get(p.ours, SOL_SOCKET, names[i]) == 100000);
  }
  static const int of_tcp[] = {TCP_NODELAY, TCP_CORK, TCP_QUICKACK};
  for (int i = 0; i < 3; ++i) {
    CHECK(end_set(p.ours, IPPROTO_TCP, of_tcp[i], 1) == 0);
    CHECK(end_get(p.ours, IPPROTO_TCP, of_tcp[i]) == 1);
    end_put(p.theirs, 500, 3, 0);
    end_take(p.ours, 500, 3, 0);
    CHECK(end_set(p.ours, IPPROTO_TCP, of_tcp[i], 0) == 0);
    end_put(p.ours, 500, 3, 0);
    end_take(p.theirs, 500, 3, 0);
  }
  struct timeval wait = {0, 30000};
  struct timeval said;
  socklen_t size = sizeof said;
  char byte;
  CHECK(setsockopt(p.ours.fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait) == 0);
  CHECK(getsockopt(p.ours.fd, SOL_SOCKET, SO_RCVTIMEO, &said, &size) == 0);
  CHECK(said.tv_sec == 0 && said.tv_usec >= 30000 && said.tv_usec < 50000);
  CHECK(recv(p.ours.fd, &byte, 1, 0) == -1 && errno == EAGAIN);
  wait.tv_usec = 0;
  CHECK(setsockopt(p.ours.fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait) == 0);
  CHECK(end_set(p.ours, SOL_SOCKET, 12345, 1) == -1 && errno == ENOPROTOOPT);
  CHECK(getsockopt(p.ours.fd, SOL_SOCKET, SO_ERROR, NULL, NULL) == -1 && errno == EFAULT);
  close_pair(p);
}

/* Options that only the kernel's TCP can serve, on a connection in use. */
static void bound_to_tcp(struct pair p) {
  static const int names[] = {SO_TIMESTAMP, SO_TIMESTAMPNS, SO_RCVLOWAT};
  for (int i = 0; i < 3; ++i) {
    const struct pair q = make_pair(AS_CLIENT, V4);
    if (is_warm) warm_up(q);
    CHECK(end_set(q.ours, SOL_SOCKET, names[i], 1) == 0);
    for (uint64_t at = 0; at < 5000; at += 500) {
      end_put(q.theirs, 500, 4, at);
      end_take(q.ours, 500, 4, at);
      end_put(q.ours, 500, 5, at);
      end_take(q.theirs, 500, 5, at);
    }
    close_pair(q);
  }
  if (is_warm) { /* too late for a connection that has left TCP */
    close_pair(p);
    return;
  }
  /* Each message says when it came, once the kernel has begun to look at its
   * clock. */
  CHECK(end_set(p.ours, SOL_SOCKET, SO_TIMESTAMP, 1) == 0);
  const uint64_t until = now_ms() + 5000;
  for (int is_stamped = 0; !is_stamped;) {
    char bytes[10];
    char control[128];
    struct iovec part = {bytes, sizeof bytes};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof control};
    end_put(p.theirs, 10, 6, 0);
    await_bytes(p.ours, 10);
    CHECK(recvmsg(p.ours.fd, &message, 0) == 10);
    verify(bytes, 10, 6, 0);
    is_stamped = CMSG_FIRSTHDR(&message) != NULL;
    CHECK(is_stamped || now_ms() < until);
  }
  close_pair(p);
}

int main(void) {
  run_each("bytes counted", bytes_counted);
  run_each("queues", queues);
  run_each("urgent mark", urgent_mark);
  run_each("error told", error_told);
  run_each("error behind bytes", error_behind_bytes);
  run_each("nothing lost", nothing_lost);
  run_each("bound to TCP", bound_to_tcp);
  return 0;
}
