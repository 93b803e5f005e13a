/* SPDX-License-Identifier: Apache-2.0 */
/* Two ends of a TCP connection that one test moves like puppets. The other end
 * is in this process or in another one; the calls look the same. Plain sockets
 * programming: nothing here knows what carries the bytes. */
#ifndef ENDS_H
#define ENDS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

/* ---- failing ------------------------------------------------------------- */

/* Says where, and ends the program with status 1. */
_Noreturn void fail(const char* file, int line, const char* what);
#define CHECK(condition)                                    \
  do {                                                      \
    if (!(condition)) fail(__FILE__, __LINE__, #condition); \
  } while (0)
/* What the program does at the moment; fail() prints it. */
void doing(const char* format, ...) __attribute__((format(printf, 1, 2)));

/* ---- bytes --------------------------------------------------------------- */

/* Byte number `at` of the stream `seed`. */
unsigned char byte_of(uint32_t seed, uint64_t at);
void fill(void* to, size_t size, uint32_t seed, uint64_t at);
/* Ends the program if the bytes are not those of fill(). */
void verify(const void* from, size_t size, uint32_t seed, uint64_t at);

/* ---- time ---------------------------------------------------------------- */

uint64_t now_ms(void);
void pause_ms(int ms); /* only where a test is about the passing of time */

/* ---- sockets of this process --------------------------------------------- */

enum family { V4, V6, MAPPED }; /* MAPPED: an IPv6 socket that talks IPv4 */

/* Sockets as the system makes them. Without it they are made for plain timing:
 * TCP_NODELAY, and a simple congestion control. */
extern int has_system_defaults;

/* The environment says that what carries the bytes is at its worst
 * (TALK_ROUGH): correct still, but readiness is told more often than needed. */
int is_rough(void);

/* A listener on the loopback address of the family and a free port. */
int listen_at(enum family, struct sockaddr_storage* at, socklen_t* size);
int connect_to(const struct sockaddr_storage* at, socklen_t size);
void set_nonblocking(int fd, int is_on);
void send_all(int fd, const void* from, size_t size);
void recv_all(int fd, void* to, size_t size);
/* Bytes that the kernel's TCP received on this socket, ever. */
uint64_t tcp_bytes_received(int fd);
short poll_one(int fd, short events, int timeout_ms);

/* ---- ends ---------------------------------------------------------------- */

struct puppet; /* a process that makes calls for us */
struct end {
  struct puppet* by; /* NULL: this process */
  int fd;
};

struct puppet* make_puppet(void);
void end_puppet(struct puppet*);  /* lets it exit, with all it has open */
void kill_puppet(struct puppet*); /* kill -9 */

/* As the calls of their names; errno is that of the call. */
ssize_t end_send(struct end, const void*, size_t, int flags);
ssize_t end_recv(struct end, void*, size_t, int flags);
int end_shutdown(struct end, int how);
int end_close(struct end);
int end_set(struct end, int level, int name, int value);
int end_get(struct end, int level, int name);
int end_ioctl(struct end, unsigned long request); /* gives the int it reads */
void end_nonblocking(struct end, int is_on);
short end_poll(struct end, short events, int timeout_ms); /* gives revents */
uint64_t end_tcp_bytes_received(struct end);
/* All of it, in bytes of fill(). */
void end_put(struct end, size_t, uint32_t seed, uint64_t at);
void end_take(struct end, size_t, uint32_t seed, uint64_t at);

/* For calls of a puppet that block: begin one, do something else, finish it. */
void begin_recv(struct end, size_t, int flags);
ssize_t finish_recv(struct end, void*, size_t);
void begin_put(struct end, size_t, uint32_t seed, uint64_t at);
void finish_put(struct end);
void begin_take(struct end, size_t, uint32_t seed, uint64_t at);
void finish_take(struct end);

/* ---- pairs --------------------------------------------------------------- */

enum pairing {
  SELF,      /* both ends here */
  AS_CLIENT, /* `ours` connected, a puppet accepted */
  AS_SERVER, /* the other way round */
};
struct pair {
  struct end ours;
  struct end theirs;
};

struct pair make_pair(enum pairing, enum family);
void close_pair(struct pair);
/* Small messages to and fro, as programs exchange before they do anything big. */
void warm_up(struct pair);
/* Checks the lane that the environment says (TALK_LANE: memory, tcp). */
void check_lane(struct pair);

/* Runs a scenario for every pairing, on a fresh connection and on one that has
 * been in use, and prints a line for each. The scenario closes the ends. */
typedef void scenario(struct pair);
extern int is_warm; /* in a scenario: has the connection been in use? */
void run_each(const char* name, scenario*);
/* The same for one pairing. */
void run_with(const char* name, enum pairing, scenario*);

#endif
