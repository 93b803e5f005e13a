/* SPDX-License-Identifier: Apache-2.0 */
/* Loops that never block in recv or send: poll and select over many
 * connections, both directions at once, without end of room. */
#include "ends.h"

#include <fcntl.h>
#include <sys/select.h>
#include <sys/wait.h>

/* One connection of a loop that sends and receives as it can. */
struct flow {
  int fd;
  uint32_t out_seed;
  uint32_t in_seed;
  uint64_t sent;
  uint64_t got;
  uint64_t size;
  int is_shut;
  int is_done;
};

static void move(struct flow* f, int may_read, int may_write, size_t piece) {
  static char bytes[60000];
  if (may_read) {
    const ssize_t n = recv(f->fd, bytes, piece, 0);
    if (n > 0) {
      verify(bytes, (size_t)n, f->in_seed, f->got);
      f->got += (uint64_t)n;
    } else if (n == 0) {
      CHECK(f->got == f->size);
      f->is_done = 1;
    } else {
      CHECK(errno == EAGAIN);
    }
  }
  if (may_write && f->sent < f->size) {
    const size_t n = f->size - f->sent < piece ? (size_t)(f->size - f->sent) : piece;
    fill(bytes, n, f->out_seed, f->sent);
    const ssize_t done = send(f->fd, bytes, n, MSG_NOSIGNAL);
    if (done > 0) {
      f->sent += (uint64_t)done;
    } else {
      CHECK(done < 0 && errno == EAGAIN);
    }
  }
  if (f->sent == f->size && !f->is_shut) {
    CHECK(shutdown(f->fd, SHUT_WR) == 0);
    f->is_shut = 1;
  }
}

static void with_poll(struct flow* flows, int count, size_t piece) {
  struct pollfd fds[64];
  for (int left = count; left > 0;) {
    for (int i = 0; i < count; ++i) {
      const int is_over = flows[i].is_done && flows[i].is_shut;
      fds[i].fd = is_over ? -1 : flows[i].fd;
      fds[i].events = (short)((flows[i].is_done ? 0 : POLLIN) | (flows[i].is_shut ? 0 : POLLOUT));
    }
    CHECK(poll(fds, (nfds_t)count, 10000) > 0);
    left = 0;
    for (int i = 0; i < count; ++i) {
      CHECK((fds[i].revents & (POLLERR | POLLNVAL)) == 0);
      move(&flows[i], fds[i].revents & POLLIN, fds[i].revents & POLLOUT, piece);
      left += !flows[i].is_done || !flows[i].is_shut;
    }
  }
}

static void with_select(struct flow* flows, int count, size_t piece) {
  for (int left = count; left > 0;) {
    fd_set in;
    fd_set out;
    FD_ZERO(&in);
    FD_ZERO(&out);
    int highest = -1;
    for (int i = 0; i < count; ++i) {
      if (!flows[i].is_done) FD_SET(flows[i].fd, &in);
      if (!flows[i].is_shut) FD_SET(flows[i].fd, &out);
      if (flows[i].fd > highest) highest = flows[i].fd;
    }
    struct timeval patience = {10, 0};
    CHECK(select(highest + 1, &in, &out, NULL, &patience) > 0);
    left = 0;
    for (int i = 0; i < count; ++i) {
      move(&flows[i], FD_ISSET(flows[i].fd, &in), FD_ISSET(flows[i].fd, &out), piece);
      left += !flows[i].is_done || !flows[i].is_shut;
    }
  }
}

typedef void loop(struct flow*, int count, size_t piece);

/* Both ends in the given loop, `count` connections, `size` bytes each way. */
static void both_ways(const char* name, loop* run, int count, uint64_t size, size_t piece) {
  doing("%s, %d", name, count);
  struct sockaddr_storage at;
  socklen_t at_size;
  const int listener = listen_at(V4, &at, &at_size);
  fflush(NULL);
  const pid_t child = fork();
  CHECK(child >= 0);
  struct flow flows[64];
  for (int i = 0; i < count; ++i) {
    const int fd = child == 0 ? connect_to(&at, at_size) : accept(listener, NULL, NULL);
    CHECK(fd >= 0);
    /* Blocking first, as servers read a first line. */
    char hello[8] = "hello";
    if (child == 0) {
      send_all(fd, hello, 5);
    } else {
      recv_all(fd, hello, 5);
    }
    set_nonblocking(fd, 1);
    flows[i] = (struct flow){
        .fd = fd, .out_seed = child == 0 ? 1 : 2, .in_seed = child == 0 ? 2 : 1, .size = size};
  }
  run(flows, count, piece);
  for (int i = 0; i < count; ++i) CHECK(close(flows[i].fd) == 0);
  close(listener);
  if (child == 0) _exit(0);
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  printf("%s, %d connections, %llu bytes: ok\n", name, count, (unsigned long long)size);
}

/* Not readable for what the program did not get as bytes. */
static void ready_means_bytes(struct pair p) {
  for (int i = 0; i < 400; ++i) {
    struct end from = i % 2 ? p.ours : p.theirs;
    struct end to = i % 2 ? p.theirs : p.ours;
    char bytes[300];
    const size_t size = 1 + (size_t)i % 300;
    fill(bytes, size, 1, 0);
    CHECK(end_send(from, bytes, size, 0) == (ssize_t)size);
    for (size_t have = 0; have < size;) {
      CHECK(end_poll(to, POLLIN, 5000) == POLLIN);
      const ssize_t n = end_recv(to, bytes + have, size - have, MSG_DONTWAIT);
      CHECK(n > 0);
      have += (size_t)n;
    }
    verify(bytes, size, 1, 0);
    CHECK(end_poll(to, POLLIN, 0) == 0);
    CHECK(end_poll(from, POLLIN | POLLOUT, 5000) == POLLOUT);
  }
  close_pair(p);
}

/* Writable again when the peer has read, not before. */
static void room_comes_back(struct pair p) {
  static char piece[65536];
  end_nonblocking(p.ours, 1);
  uint64_t sent = 0;
  for (int is_full = 0; !is_full;) {
    fill(piece, sizeof piece, 1, sent);
    const ssize_t n = end_send(p.ours, piece, sizeof piece, 0);
    if (n > 0) {
      sent += (uint64_t)n;
    } else {
      CHECK(errno == EAGAIN);
      is_full = end_poll(p.ours, POLLOUT, 100) == 0;
    }
  }
  CHECK(end_poll(p.ours, POLLOUT, 0) == 0);
  CHECK(end_poll(p.ours, POLLIN | POLLOUT, 20) == 0);
  /* One byte more or less is not enough to be told. */
  end_take(p.theirs, sent, 1, 0);
  CHECK(end_poll(p.ours, POLLOUT, 5000) == POLLOUT);
  fill(piece, 1000, 2, 0);
  for (ssize_t done = 0; done < 1000;) {
    const ssize_t n = end_send(p.ours, piece + done, 1000 - (size_t)done, 0);
    CHECK(n == 1000 || is_rough()); /* a buffer may be smaller then */
    if (n < 0) CHECK(errno == EAGAIN && end_poll(p.ours, POLLOUT, 5000) == POLLOUT);
    if (n > 0) done += n;
  }
  end_take(p.theirs, 1000, 2, 0);
  close_pair(p);
}

/* Among descriptors of other kinds, closed ones, and none at all. */
static void mixed(struct pair p) {
  int ends[2];
  CHECK(pipe(ends) == 0);
  struct pollfd fds[5] = {{p.ours.fd, POLLIN, 0},
                          {-1, POLLIN, 77},
                          {ends[0], POLLIN, 0},
                          {ends[1], POLLOUT, 0},
                          {9999, POLLIN, 0}};
  CHECK(poll(fds, 5, 5000) == 2);
  CHECK(fds[0].revents == 0 && fds[1].revents == 0 && fds[2].revents == 0);
  CHECK(fds[3].revents == POLLOUT && fds[4].revents == POLLNVAL);
  CHECK(poll(fds, 3, 0) == 0);
  CHECK(write(ends[1], "x", 1) == 1);
  CHECK(poll(fds, 3, 5000) == 1 && fds[2].revents == POLLIN);
  end_put(p.theirs, 1, 1, 0);
  const uint64_t until = now_ms() + 5000;
  while (poll(fds, 3, 5000) != 2) CHECK(now_ms() < until);
  CHECK(fds[0].revents == POLLIN && fds[2].revents == POLLIN);
  /* The same socket twice. */
  struct pollfd twice[2] = {{p.ours.fd, POLLIN, 0}, {p.ours.fd, POLLOUT, 0}};
  CHECK(poll(twice, 2, 5000) == 2);
  CHECK(twice[0].revents == POLLIN && twice[1].revents == POLLOUT);
  fd_set in;
  FD_ZERO(&in);
  FD_SET(p.ours.fd, &in);
  FD_SET(ends[0], &in);
  FD_SET(60, &in);
  CHECK(select(61, &in, NULL, NULL, NULL) == -1 && errno == EBADF);
  FD_CLR(60, &in);
  CHECK(select(61, &in, NULL, NULL, NULL) == 2);
  end_take(p.ours, 1, 1, 0);
  CHECK(poll(NULL, 0, 0) == 0);
  close(ends[0]);
  close(ends[1]);
  close_pair(p);
}

int main(void) {
  run_each("ready means bytes", ready_means_bytes);
  run_each("room comes back", room_comes_back);
  run_each("mixed", mixed);
  both_ways("poll", with_poll, 1, 30 << 20, 60000);
  both_ways("poll", with_poll, 20, 1 << 20, 7000);
  both_ways("select", with_select, 1, 30 << 20, 60000);
  both_ways("select", with_select, 40, 500000, 1111);
  return 0;
}
