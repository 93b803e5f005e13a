/* SPDX-License-Identifier: Apache-2.0 */
#include "ends.h"

#include <fcntl.h>
#include <linux/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

/* ---- failing ------------------------------------------------------------- */

static char current[256] = "start";

void fail(const char* file, int line, const char* what) {
  const int code = errno;
  fprintf(stderr, "%s:%d: %s is false (errno %d %s) while: %s [pid %d]\n", file, line, what, code,
          strerror(code), current, (int)getpid());
  fflush(NULL);
  _exit(1);
}

void doing(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(current, sizeof current, format, arguments);
  va_end(arguments);
}

/* ---- bytes --------------------------------------------------------------- */

unsigned char byte_of(uint32_t seed, uint64_t at) {
  const uint64_t mixed = (at + seed * 0x9E3779B9u) * 0x9E3779B97F4A7C15u;
  return (unsigned char)(mixed >> 40);
}

void fill(void* to, size_t size, uint32_t seed, uint64_t at) {
  unsigned char* bytes = to;
  for (size_t i = 0; i < size; ++i) bytes[i] = byte_of(seed, at + i);
}

void verify(const void* from, size_t size, uint32_t seed, uint64_t at) {
  const unsigned char* bytes = from;
  for (size_t i = 0; i < size; ++i) {
    if (bytes[i] == byte_of(seed, at + i)) continue;
    fprintf(stderr, "byte %llu of stream %u is %02x, not %02x\n", (unsigned long long)(at + i),
            seed, bytes[i], byte_of(seed, at + i));
    fail(__FILE__, __LINE__, "the bytes are those that were sent");
  }
}

/* ---- time ---------------------------------------------------------------- */

uint64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void pause_ms(int ms) {
  struct timespec left = {ms / 1000, (long)(ms % 1000) * 1000000};
  while (nanosleep(&left, &left) != 0 && errno == EINTR) {
  }
}

/* ---- sockets of this process --------------------------------------------- */

static socklen_t loopback(enum family of, struct sockaddr_storage* at) {
  memset(at, 0, sizeof *at);
  if (of == V4) {
    struct sockaddr_in* in = (struct sockaddr_in*)at;
    in->sin_family = AF_INET;
    in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return sizeof *in;
  }
  struct sockaddr_in6* in6 = (struct sockaddr_in6*)at;
  in6->sin6_family = AF_INET6;
  in6->sin6_addr.s6_addr[15] = 1;
  if (of == MAPPED) {
    in6->sin6_addr.s6_addr[10] = in6->sin6_addr.s6_addr[11] = 0xFF;
    in6->sin6_addr.s6_addr[12] = 127;
  }
  return sizeof *in6;
}

int has_system_defaults;

/* Few tests are about Nagle's delays, or about a congestion control that takes
 * a slow application for a slow network. */
static int make_socket(int domain) {
  const int fd = socket(domain, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(fd >= 0);
  if (has_system_defaults) return fd;
  const int on = 1;
  CHECK(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0);
  setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
  return fd;
}

int listen_at(enum family of, struct sockaddr_storage* at, socklen_t* size) {
  *size = loopback(of, at);
  const int fd = make_socket(at->ss_family);
  CHECK(bind(fd, (struct sockaddr*)at, *size) == 0);
  CHECK(listen(fd, 128) == 0);
  CHECK(getsockname(fd, (struct sockaddr*)at, size) == 0);
  return fd;
}

int connect_to(const struct sockaddr_storage* at, socklen_t size) {
  const int fd = make_socket(at->ss_family);
  CHECK(connect(fd, (const struct sockaddr*)at, size) == 0);
  return fd;
}

void set_nonblocking(int fd, int is_on) {
  const int flags = fcntl(fd, F_GETFL);
  CHECK(flags >= 0);
  CHECK(fcntl(fd, F_SETFL, is_on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK) == 0);
}

void send_all(int fd, const void* from, size_t size) {
  const char* at = from;
  while (size > 0) {
    const ssize_t sent = send(fd, at, size, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    CHECK(sent > 0);
    at += sent;
    size -= (size_t)sent;
  }
}

void recv_all(int fd, void* to, size_t size) {
  char* at = to;
  while (size > 0) {
    const ssize_t got = recv(fd, at, size, 0);
    if (got < 0 && errno == EINTR) continue;
    CHECK(got > 0);
    at += got;
    size -= (size_t)got;
  }
}

uint64_t tcp_bytes_received(int fd) {
  struct tcp_info info;
  socklen_t size = sizeof info;
  /* The kernel's own answer: what getsockopt says may count other bytes too. */
  CHECK(syscall(SYS_getsockopt, fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0);
  return info.tcpi_bytes_received;
}

short poll_one(int fd, short events, int timeout_ms) {
  struct pollfd one = {fd, events, 0};
  const int found = poll(&one, 1, timeout_ms);
  CHECK(found == (one.revents != 0));
  return one.revents;
}

/* ---- puppets ------------------------------------------------------------- */

struct puppet {
  pid_t pid;
  int to;
  int from;
};

enum verb {
  DO_LISTEN,
  DO_ACCEPT,
  DO_CONNECT,
  DO_SEND,
  DO_RECV,
  DO_PUT,
  DO_TAKE,
  DO_SHUTDOWN,
  DO_CLOSE,
  DO_SET,
  DO_GET,
  DO_IOCTL,
  DO_NONBLOCKING,
  DO_POLL,
  DO_RECEIVED,
};

struct order {
  enum verb verb;
  int fd;
  int a, b, c;
  uint64_t size;
  uint64_t at;
  struct sockaddr_storage address;
  socklen_t address_size;
};
struct answer {
  int64_t value;
  int code;
  struct sockaddr_storage address;
  socklen_t address_size;
};

static int write_whole(int fd, const void* from, size_t size) {
  const char* at = from;
  while (size > 0) {
    const ssize_t n = write(fd, at, size);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return 0;
    at += n;
    size -= (size_t)n;
  }
  return 1;
}
static int read_whole(int fd, void* to, size_t size) {
  char* at = to;
  while (size > 0) {
    const ssize_t n = read(fd, at, size);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return 0;
    at += n;
    size -= (size_t)n;
  }
  return 1;
}

static void put(int fd, size_t size, uint32_t seed, uint64_t at) {
  char piece[8192];
  while (size > 0) {
    const size_t n = size < sizeof piece ? size : sizeof piece;
    fill(piece, n, seed, at);
    send_all(fd, piece, n);
    at += n;
    size -= n;
  }
}
static void take(int fd, size_t size, uint32_t seed, uint64_t at) {
  char piece[8192];
  while (size > 0) {
    const size_t n = size < sizeof piece ? size : sizeof piece;
    recv_all(fd, piece, n);
    verify(piece, n, seed, at);
    at += n;
    size -= n;
  }
}

/* What the puppet does with an order; `data` has room for size bytes. */
static struct answer obey(const struct order* o, void* data) {
  struct answer said = {0};
  errno = 0;
  switch (o->verb) {
    case DO_LISTEN:
      said.value = listen_at((enum family)o->a, &said.address, &said.address_size);
      break;
    case DO_ACCEPT: said.value = accept4(o->fd, NULL, NULL, SOCK_CLOEXEC); break;
    case DO_CONNECT: said.value = connect_to(&o->address, o->address_size); break;
    case DO_SEND: said.value = send(o->fd, data, o->size, o->a | MSG_NOSIGNAL); break;
    case DO_RECV: said.value = recv(o->fd, data, o->size, o->a); break;
    case DO_PUT: put(o->fd, o->size, (uint32_t)o->a, o->at); break;
    case DO_TAKE: take(o->fd, o->size, (uint32_t)o->a, o->at); break;
    case DO_SHUTDOWN: said.value = shutdown(o->fd, o->a); break;
    case DO_CLOSE: said.value = close(o->fd); break;
    case DO_SET: said.value = setsockopt(o->fd, o->a, o->b, &o->c, sizeof o->c); break;
    case DO_GET: {
      int value = 0;
      socklen_t size = sizeof value;
      said.value = getsockopt(o->fd, o->a, o->b, &value, &size) == 0 ? value : -1;
      break;
    }
    case DO_IOCTL: {
      int value = 0;
      said.value = ioctl(o->fd, o->at, &value) == 0 ? value : -1;
      break;
    }
    case DO_NONBLOCKING: set_nonblocking(o->fd, o->a); break;
    case DO_POLL: said.value = poll_one(o->fd, (short)o->a, o->b); break;
    case DO_RECEIVED: said.value = (int64_t)tcp_bytes_received(o->fd); break;
  }
  said.code = errno;
  return said;
}

static _Noreturn void serve(int from, int to) {
  struct order o;
  while (read_whole(from, &o, sizeof o)) {
    doing("order %d of the test", (int)o.verb);
    const int has_data = o.verb == DO_SEND || o.verb == DO_RECV;
    char* data = has_data ? malloc(o.size + 1) : NULL;
    if (o.verb == DO_SEND && !read_whole(from, data, o.size)) break;
    const struct answer said = obey(&o, data);
    if (!write_whole(to, &said, sizeof said)) break;
    if (o.verb == DO_RECV && said.value > 0 && !write_whole(to, data, (size_t)said.value)) break;
    free(data);
  }
  exit(0);
}

struct puppet* make_puppet(void) {
  int down[2];
  int up[2];
  CHECK(pipe2(down, O_CLOEXEC) == 0);
  CHECK(pipe2(up, O_CLOEXEC) == 0);
  fflush(NULL);
  const pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid == 0) {
    close(down[1]);
    close(up[0]);
    serve(down[0], up[1]);
  }
  close(down[0]);
  close(up[1]);
  struct puppet* made = malloc(sizeof *made);
  CHECK(made != NULL);
  *made = (struct puppet){pid, down[1], up[0]};
  return made;
}

void end_puppet(struct puppet* of) {
  int status = 0;
  close(of->to);
  close(of->from);
  while (waitpid(of->pid, &status, 0) < 0) CHECK(errno == EINTR);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  free(of);
}

void kill_puppet(struct puppet* of) {
  CHECK(kill(of->pid, SIGKILL) == 0);
  while (waitpid(of->pid, NULL, 0) < 0) CHECK(errno == EINTR);
  close(of->to);
  close(of->from);
  free(of);
}

static void begin(struct puppet* by, const struct order* o, const void* data) {
  CHECK(write_whole(by->to, o, sizeof *o));
  if (data != NULL) CHECK(write_whole(by->to, data, o->size));
}
static struct answer finish(struct puppet* by, void* data, size_t room) {
  struct answer said;
  CHECK(read_whole(by->from, &said, sizeof said));
  if (data != NULL && said.value > 0) {
    CHECK((size_t)said.value <= room);
    CHECK(read_whole(by->from, data, (size_t)said.value));
  }
  errno = said.code;
  return said;
}

static struct answer call(struct puppet* by, const struct order* o, const void* out, void* in) {
  if (by != NULL) {
    begin(by, o, out);
    return finish(by, in, o->size);
  }
  union {
    const void* from;
    void* to;
  } data;
  if (out != NULL) {
    data.from = out;
  } else {
    data.to = in;
  }
  const struct answer said = obey(o, data.to);
  errno = said.code;
  return said;
}

int is_rough(void) { return getenv("TALK_ROUGH") != NULL; }

/* ---- ends ---------------------------------------------------------------- */

ssize_t end_send(struct end on, const void* from, size_t size, int flags) {
  const struct order o = {.verb = DO_SEND, .fd = on.fd, .a = flags, .size = size};
  return call(on.by, &o, from, NULL).value;
}
ssize_t end_recv(struct end on, void* to, size_t size, int flags) {
  const struct order o = {.verb = DO_RECV, .fd = on.fd, .a = flags, .size = size};
  return call(on.by, &o, NULL, to).value;
}
int end_shutdown(struct end on, int how) {
  const struct order o = {.verb = DO_SHUTDOWN, .fd = on.fd, .a = how};
  return (int)call(on.by, &o, NULL, NULL).value;
}
int end_close(struct end on) {
  const struct order o = {.verb = DO_CLOSE, .fd = on.fd};
  return (int)call(on.by, &o, NULL, NULL).value;
}
int end_set(struct end on, int level, int name, int value) {
  const struct order o = {.verb = DO_SET, .fd = on.fd, .a = level, .b = name, .c = value};
  return (int)call(on.by, &o, NULL, NULL).value;
}
int end_get(struct end on, int level, int name) {
  const struct order o = {.verb = DO_GET, .fd = on.fd, .a = level, .b = name};
  return (int)call(on.by, &o, NULL, NULL).value;
}
int end_ioctl(struct end on, unsigned long request) {
  const struct order o = {.verb = DO_IOCTL, .fd = on.fd, .at = request};
  return (int)call(on.by, &o, NULL, NULL).value;
}
void end_nonblocking(struct end on, int is_on) {
  const struct order o = {.verb = DO_NONBLOCKING, .fd = on.fd, .a = is_on};
  call(on.by, &o, NULL, NULL);
}
short end_poll(struct end on, short events, int timeout_ms) {
  const struct order o = {.verb = DO_POLL, .fd = on.fd, .a = events, .b = timeout_ms};
  return (short)call(on.by, &o, NULL, NULL).value;
}
uint64_t end_tcp_bytes_received(struct end on) {
  const struct order o = {.verb = DO_RECEIVED, .fd = on.fd};
  return (uint64_t)call(on.by, &o, NULL, NULL).value;
}
void end_put(struct end on, size_t size, uint32_t seed, uint64_t at) {
  const struct order o = {.verb = DO_PUT, .fd = on.fd, .a = (int)seed, .size = size, .at = at};
  call(on.by, &o, NULL, NULL);
}
void end_take(struct end on, size_t size, uint32_t seed, uint64_t at) {
  const struct order o = {.verb = DO_TAKE, .fd = on.fd, .a = (int)seed, .size = size, .at = at};
  call(on.by, &o, NULL, NULL);
}

void begin_recv(struct end on, size_t size, int flags) {
  const struct order o = {.verb = DO_RECV, .fd = on.fd, .a = flags, .size = size};
  begin(on.by, &o, NULL);
}
ssize_t finish_recv(struct end on, void* to, size_t size) { return finish(on.by, to, size).value; }
void begin_put(struct end on, size_t size, uint32_t seed, uint64_t at) {
  const struct order o = {.verb = DO_PUT, .fd = on.fd, .a = (int)seed, .size = size, .at = at};
  begin(on.by, &o, NULL);
}
void finish_put(struct end on) { finish(on.by, NULL, 0); }
void begin_take(struct end on, size_t size, uint32_t seed, uint64_t at) {
  const struct order o = {.verb = DO_TAKE, .fd = on.fd, .a = (int)seed, .size = size, .at = at};
  begin(on.by, &o, NULL);
}
void finish_take(struct end on) { finish(on.by, NULL, 0); }

/* ---- pairs --------------------------------------------------------------- */

/* One puppet for all pairs of a program, made before the first socket. */
static struct puppet* the_other;

struct pair make_pair(enum pairing how, enum family of) {
  if (the_other == NULL) the_other = make_puppet();
  struct puppet* const client = how == AS_SERVER ? the_other : NULL;
  struct puppet* const server = how == AS_CLIENT ? the_other : NULL;
  const struct order listens = {.verb = DO_LISTEN, .a = (int)of};
  const struct answer at = call(server, &listens, NULL, NULL);
  const struct order connects = {
      .verb = DO_CONNECT, .address = at.address, .address_size = at.address_size};
  const struct answer connected = call(client, &connects, NULL, NULL);
  const struct order accepts = {.verb = DO_ACCEPT, .fd = (int)at.value};
  const struct answer accepted = call(server, &accepts, NULL, NULL);
  CHECK(connected.value >= 0 && accepted.value >= 0);
  const struct order closes = {.verb = DO_CLOSE, .fd = (int)at.value};
  call(server, &closes, NULL, NULL);
  const struct end one = {client, (int)connected.value};
  const struct end two = {server, (int)accepted.value};
  return how == AS_SERVER ? (struct pair){two, one} : (struct pair){one, two};
}

void close_pair(struct pair of) {
  CHECK(end_close(of.ours) == 0);
  CHECK(end_close(of.theirs) == 0);
}

void warm_up(struct pair of) {
  uint64_t at = 0;
  for (int round = 0; round < 24; ++round) {
    const size_t size = 1 + (size_t)round * 7;
    end_put(of.ours, size, 11, at);
    end_take(of.theirs, size, 11, at);
    end_put(of.theirs, size, 12, at);
    end_take(of.ours, size, 12, at);
    at += size;
  }
}

void check_lane(struct pair of) {
  const char* wanted = getenv("TALK_LANE");
  if (wanted == NULL) return;
  const int in_memory = strcmp(wanted, "memory") == 0;
  const uint64_t ours = end_tcp_bytes_received(of.ours);
  const uint64_t theirs = end_tcp_bytes_received(of.theirs);
  for (int round = 0; round < 4; ++round) {
    end_put(of.ours, 256, 13, 0);
    end_take(of.theirs, 256, 13, 0);
    end_put(of.theirs, 256, 14, 0);
    end_take(of.ours, 256, 14, 0);
  }
  CHECK((end_tcp_bytes_received(of.ours) == ours) == in_memory);
  CHECK((end_tcp_bytes_received(of.theirs) == theirs) == in_memory);
}

int is_warm;

void run_with(const char* name, enum pairing how, scenario* play) {
  static const char* const pairings[] = {"self", "client", "server"};
  for (is_warm = 0; is_warm < 2; ++is_warm) {
    doing("%s, %s, %s", name, pairings[how], is_warm ? "warm" : "cold");
    const struct pair of = make_pair(how, V4);
    if (is_warm) {
      warm_up(of);
      check_lane(of);
    }
    play(of);
    printf("%s, %s, %s: ok\n", name, pairings[how], is_warm ? "warm" : "cold");
    fflush(stdout);
  }
}

void run_each(const char* name, scenario* play) {
  run_with(name, SELF, play);
  run_with(name, AS_CLIENT, play);
  run_with(name, AS_SERVER, play);
}
