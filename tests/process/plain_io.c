/* SPDX-License-Identifier: Apache-2.0 */
/* io.h by the calls of libc. */
#include "io.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

static int listener = -1;
static int connection = -1;

static long judge(long got) { return got < 0 ? -errno : got; }

static struct sockaddr_in at_port(uint16_t port) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return at;
}

uint16_t io_listen(void) {
  struct sockaddr_in at = at_port(0);
  socklen_t size = sizeof at;
  listener = socket(AF_INET, SOCK_STREAM, 0);
  if (bind(listener, (struct sockaddr*)&at, size) != 0 || listen(listener, 1) != 0 ||
      getsockname(listener, (struct sockaddr*)&at, &size) != 0) {
    return 0;
  }
  return ntohs(at.sin_port);
}

long io_accept(void) {
  connection = accept(listener, NULL, NULL);
  return judge(connection);
}

long io_connect(uint16_t port) {
  const struct sockaddr_in at = at_port(port);
  connection = socket(AF_INET, SOCK_STREAM, 0);
  return judge(connect(connection, (const struct sockaddr*)&at, sizeof at));
}

/* "Asynchronous" is: not before poll() says so. */
long io_read(void* to, size_t size, int is_asynchronous) {
  struct pollfd wanted = {connection, POLLIN, 0};
  if (is_asynchronous && poll(&wanted, 1, -1) < 0) return -errno;
  return judge(recv(connection, to, size, 0));
}

long io_write(const void* from, size_t size) {
  return judge(send(connection, from, size, MSG_NOSIGNAL));
}

long io_shutdown(void) { return judge(shutdown(connection, SHUT_WR)); }

void io_close(void) {
  if (connection >= 0) close(connection);
  if (listener >= 0) close(listener);
}
