/* SPDX-License-Identifier: Apache-2.0 */
/* How connections begin: address families, connects that do not block or are
 * refused, and threads that share the work. */
#include "ends.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>

static void talk(struct pair p) {
  warm_up(p);
  check_lane(p);
  end_put(p.ours, 300000 / 8, 1, 0);
  end_take(p.theirs, 300000 / 8, 1, 0);
}

static void families(void) {
  static const char* const names[] = {"IPv4", "IPv6", "IPv4 in IPv6"};
  for (int of = V4; of <= MAPPED; ++of) {
    for (int how = SELF; how <= AS_SERVER; ++how) {
      doing("%s", names[of]);
      const struct pair p = make_pair((enum pairing)how, (enum family)of);
      talk(p);
      close_pair(p);
    }
    printf("%s: ok\n", names[of]);
  }
}

static int new_socket(int domain, int flags) {
  const int fd = socket(domain, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
  CHECK(fd >= 0);
  return fd;
}

static void accept_and_talk(int listener, int client) {
  const struct end server = {NULL, accept(listener, NULL, NULL)};
  CHECK(server.fd >= 0);
  const struct pair p = {{NULL, client}, server};
  talk(p);
  close_pair(p);
}

/* A listener for everything, and clients that name it in every way. */
static void wildcards(void) {
  doing("wildcards");
  const int listener = new_socket(AF_INET6, 0);
  struct sockaddr_in6 any = {.sin6_family = AF_INET6};
  socklen_t size = sizeof any;
  CHECK(bind(listener, (struct sockaddr*)&any, size) == 0 && listen(listener, 16) == 0);
  CHECK(getsockname(listener, (struct sockaddr*)&any, &size) == 0);
  struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = any.sin6_port};
  const uint32_t hosts[] = {INADDR_LOOPBACK, INADDR_LOOPBACK + 7, INADDR_ANY};
  for (int i = 0; i < 3; ++i) {
    v4.sin_addr.s_addr = htonl(hosts[i]);
    const int client = new_socket(AF_INET, 0);
    CHECK(connect(client, (struct sockaddr*)&v4, sizeof v4) == 0);
    accept_and_talk(listener, client);
  }
  struct sockaddr_in6 v6 = any;
  for (int i = 0; i < 2; ++i) {
    v6.sin6_addr.s6_addr[15] = (uint8_t)i;
    const int client = new_socket(AF_INET6, 0);
    CHECK(connect(client, (struct sockaddr*)&v6, sizeof v6) == 0);
    accept_and_talk(listener, client);
  }
  /* From an address and a port of the client's choice. */
  const int client = new_socket(AF_INET, 0);
  struct sockaddr_in from = {.sin_family = AF_INET};
  from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 5);
  CHECK(bind(client, (struct sockaddr*)&from, sizeof from) == 0);
  v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  CHECK(connect(client, (struct sockaddr*)&v4, sizeof v4) == 0);
  accept_and_talk(listener, client);
  close(listener);
  printf("wildcards: ok\n");
}

/* The whole dance of a connect that does not block. */
static int connect_nonblocking(const struct sockaddr_storage* at, socklen_t size, int* error) {
  const int fd = new_socket(at->ss_family, SOCK_NONBLOCK);
  int code = connect(fd, (const struct sockaddr*)at, size) == 0 ? 0 : errno;
  if (code == EINPROGRESS) {
    CHECK(poll_one(fd, POLLOUT, 5000) != 0);
    socklen_t length = sizeof code;
    CHECK(getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &length) == 0);
    if (code == 0) {
      CHECK(poll_one(fd, POLLOUT, 0) == POLLOUT);
      /* The first repetition says 0, the next ones that it is connected. */
      const int again = connect(fd, (const struct sockaddr*)at, size);
      CHECK(again == 0 || errno == EISCONN);
      CHECK(connect(fd, (const struct sockaddr*)at, size) == -1 && errno == EISCONN);
    }
  }
  *error = code;
  return fd;
}

static void nonblocking(void) {
  doing("nonblocking connect");
  struct sockaddr_storage at;
  socklen_t size;
  int error = 0;
  for (int of = V4; of <= MAPPED; ++of) {
    const int listener = listen_at((enum family)of, &at, &size);
    set_nonblocking(listener, 1);
    CHECK(accept(listener, NULL, NULL) == -1 && errno == EAGAIN);
    for (int i = 0; i < 3; ++i) {
      const int client = connect_nonblocking(&at, size, &error);
      CHECK(error == 0);
      CHECK(poll_one(listener, POLLIN, 5000) == POLLIN);
      set_nonblocking(client, 0);
      accept_and_talk(listener, client);
    }
    close(listener);
    const int refused = connect_nonblocking(&at, size, &error);
    CHECK(error == ECONNREFUSED);
    CHECK(send(refused, "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE);
    close(refused);
  }
  printf("nonblocking: ok\n");
}

/* Refused, and then not: on the same descriptor. */
static void refused_then_not(void) {
  doing("refused, then not");
  struct sockaddr_storage at;
  socklen_t size;
  for (int is_blocking = 0; is_blocking < 2; ++is_blocking) {
    int listener = listen_at(V4, &at, &size);
    close(listener);
    const int client = new_socket(AF_INET, 0);
    set_nonblocking(client, !is_blocking);
    for (int i = 0; i < 3; ++i) {
      int code = connect(client, (struct sockaddr*)&at, size) == 0 ? 0 : errno;
      if (code == EINPROGRESS) {
        CHECK(poll_one(client, POLLOUT, 5000) != 0);
        code = connect(client, (struct sockaddr*)&at, size) == 0 ? 0 : errno;
      }
      CHECK(code == ECONNREFUSED);
    }
    listener = new_socket(AF_INET, 0);
    const int on = 1;
    CHECK(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0);
    CHECK(bind(listener, (struct sockaddr*)&at, size) == 0 && listen(listener, 5) == 0);
    const int again = connect(client, (struct sockaddr*)&at, size);
    CHECK(again == 0 || errno == EINPROGRESS);
    const struct pair p = {{NULL, client}, {NULL, accept(listener, NULL, NULL)}};
    CHECK(p.theirs.fd >= 0);
    CHECK(poll_one(client, POLLOUT, 5000) == POLLOUT);
    set_nonblocking(client, 0);
    warm_up(p);
    end_put(p.ours, 100000, 1, 0);
    end_take(p.theirs, 100000, 1, 0);
    close_pair(p);
    close(listener);
  }
  printf("refused, then not: ok\n");
}

/* A socket is dissolved from its peer and connected to another one. */
static void dissolved(void) {
  doing("dissolved");
  struct sockaddr_storage at;
  socklen_t size;
  const int listener = listen_at(V4, &at, &size);
  const int client = connect_to(&at, size);
  int server = accept(listener, NULL, NULL);
  CHECK(server >= 0);
  const struct pair first = {{NULL, client}, {NULL, server}};
  warm_up(first);
  const struct sockaddr nobody = {.sa_family = AF_UNSPEC};
  CHECK(connect(client, &nobody, sizeof nobody) == 0);
  char byte;
  const ssize_t end = recv(server, &byte, 1, 0);
  CHECK(end == 0 || (end == -1 && errno == ECONNRESET));
  close(server);
  CHECK(send(client, "x", 1, MSG_NOSIGNAL) == -1);
  CHECK(connect(client, (struct sockaddr*)&at, size) == 0);
  server = accept(listener, NULL, NULL);
  CHECK(server >= 0);
  const struct pair second = {{NULL, client}, {NULL, server}};
  warm_up(second);
  close_pair(second);
  close(listener);
  printf("dissolved: ok\n");
}

/* ---- threads ---------------------------------------------------------------- */

enum { CLIENTS = 8, ROUNDS = 400 };
static struct sockaddr_storage server_at;
static socklen_t server_size;
static int handed[CLIENTS * 2];
static atomic_int handed_count;
static atomic_int taken_count;
static pthread_barrier_t all_connect;

static void* accept_for_others(void* argument) {
  const int listener = *(int*)argument;
  for (int i = 0; i < CLIENTS; ++i) {
    const int fd = accept(listener, NULL, NULL);
    CHECK(fd >= 0);
    handed[i] = fd;
    atomic_store(&handed_count, i + 1);
  }
  return NULL;
}

static void* echo(void* argument) {
  (void)argument;
  const int mine = atomic_fetch_add(&taken_count, 1);
  while (atomic_load(&handed_count) <= mine) sched_yield();
  const int fd = handed[mine];
  char bytes[20000];
  ssize_t n = 0;
  while ((n = recv(fd, bytes, sizeof bytes, 0)) > 0) send_all(fd, bytes, (size_t)n);
  CHECK(n == 0 && close(fd) == 0);
  return NULL;
}

static void* ask(void* argument) {
  const uint32_t seed = (uint32_t)(uintptr_t)argument;
  pthread_barrier_wait(&all_connect);
  const int fd = connect_to(&server_at, server_size);
  char bytes[20000];
  uint64_t at = 0;
  uint64_t on_tcp = 0;
  for (uint32_t round = 0; round < ROUNDS; ++round) {
    if (round == ROUNDS / 2) on_tcp = tcp_bytes_received(fd);
    const size_t size = 1 + (seed * 7919 + round * 104729) % (round % 16 == 0 ? sizeof bytes : 900);
    fill(bytes, size, seed, at);
    send_all(fd, bytes, size);
    memset(bytes, 0, size);
    recv_all(fd, bytes, size);
    verify(bytes, size, seed, at);
    at += size;
  }
  const char* const wanted = getenv("TALK_LANE");
  CHECK(wanted == NULL || (tcp_bytes_received(fd) == on_tcp) == (strcmp(wanted, "memory") == 0));
  CHECK(close(fd) == 0);
  return NULL;
}

/* Accepted in one thread, used in others; clients in threads, or in a process
 * of their own, whose first connections these are. */
static void threads(void) {
  for (int turn = 0; turn < 8; ++turn) {
    const int is_apart = turn > 0;
    doing("threads, %d", turn);
    int listener = listen_at(V4, &server_at, &server_size);
    atomic_store(&handed_count, 0);
    atomic_store(&taken_count, 0);
    CHECK(pthread_barrier_init(&all_connect, NULL, CLIENTS) == 0);
    fflush(NULL);
    const pid_t apart = is_apart ? fork() : -1;
    pthread_t all[2 * CLIENTS + 1];
    int count = 0;
    if (apart <= 0) {
      for (uintptr_t i = 0; i < CLIENTS; ++i) {
        CHECK(pthread_create(&all[count++], NULL, ask, (void*)(i + 1)) == 0);
      }
    }
    if (apart != 0) {
      CHECK(pthread_create(&all[count++], NULL, accept_for_others, &listener) == 0);
      for (int i = 0; i < CLIENTS; ++i) CHECK(pthread_create(&all[count++], NULL, echo, NULL) == 0);
    }
    for (int i = 0; i < count; ++i) CHECK(pthread_join(all[i], NULL) == 0);
    if (apart == 0) _exit(0);
    int status = 0;
    if (apart > 0) CHECK(waitpid(apart, &status, 0) == apart && status == 0);
    close(listener);
    printf("threads %s: ok\n", is_apart ? "apart" : "together");
  }
}

/* Two threads read one connection, two write it; whole records stay whole. */
struct shared_end {
  int fd;
  uint32_t who;
};
enum { RECORDS = 4000, SIZE = 48 };
static atomic_uint record_sum[2];
static void* write_records(void* argument) {
  const struct shared_end* const e = argument;
  char record[SIZE];
  for (uint32_t i = 0; i < RECORDS; ++i) {
    memset(record, (int)(e->who + i) % 251, sizeof record);
    CHECK(send(e->fd, record, sizeof record, 0) == SIZE);
    atomic_fetch_add(&record_sum[0], (e->who + i) % 251);
  }
  return NULL;
}
static void* read_records(void* argument) {
  const struct shared_end* const e = argument;
  char record[SIZE];
  for (uint32_t i = 0; i < RECORDS; ++i) {
    CHECK(recv(e->fd, record, sizeof record, MSG_WAITALL) == SIZE);
    for (int k = 1; k < SIZE; ++k) CHECK(record[k] == record[0]);
    atomic_fetch_add(&record_sum[1], (unsigned char)record[0]);
  }
  return NULL;
}
static void shared_by_threads(void) {
  doing("shared by threads");
  const struct pair p = make_pair(SELF, V4);
  struct shared_end ends[4] = {{p.ours.fd, 1}, {p.ours.fd, 77}, {p.theirs.fd, 0}, {p.theirs.fd, 0}};
  pthread_t all[4];
  /* Only writers are several here: two readers of a stream would split records
   * in the kernel's TCP, too. */
  for (int i = 0; i < 2; ++i) CHECK(pthread_create(&all[i], NULL, write_records, &ends[i]) == 0);
  read_records(&ends[2]);
  read_records(&ends[3]);
  for (int i = 0; i < 2; ++i) CHECK(pthread_join(all[i], NULL) == 0);
  CHECK(record_sum[0] == record_sum[1]);
  close_pair(p);
  printf("shared by threads: ok\n");
}

int main(int count, char** arguments) {
  signal(SIGPIPE, SIG_IGN);
  if (count > 1 && strcmp(arguments[1], "threads") == 0) {
    threads();
    shared_by_threads();
    return 0;
  }
  families();
  wildcards();
  nonblocking();
  refused_then_not();
  dissolved();
  return 0;
}
