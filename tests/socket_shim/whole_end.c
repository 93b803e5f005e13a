/* SPDX-License-Identifier: Apache-2.0 */
/* Who waits while its peer ends is told of the end as a whole: readable, and
 * that no more will come, in one answer. The kernel keeps to that for whoever
 * sleeps; to be seen it takes many ends. */
#include "ends.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

enum { CONNECTIONS = 1500, ROUNDS = 6 };

static int connections(void) { return is_rough() ? CONNECTIONS / 15 : CONNECTIONS; }

/* Answers each byte, and ends a connection a little after its last one. */
static void serve(int listener) {
  for (int i = 0; i < connections(); ++i) {
    const int fd = accept(listener, NULL, NULL);
    char byte = 0;
    for (int k = 0; k < ROUNDS; ++k) {
      recv_all(fd, &byte, 1);
      send_all(fd, &byte, 1);
    }
    recv_all(fd, &byte, 1);
    for (volatile int k = 0; k < i * 37 % 20000; ++k) {
    }
    CHECK(shutdown(fd, SHUT_WR) == 0);
    CHECK(recv(fd, &byte, 1, 0) <= 0);
    close(fd);
  }
}

int main(void) {
  struct sockaddr_storage at;
  socklen_t size = 0;
  const int listener = listen_at(V4, &at, &size);
  const pid_t server = fork();
  CHECK(server >= 0);
  if (server == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    serve(listener);
    exit(0);
  }
  for (int i = 0; i < connections(); ++i) {
    const int fd = connect_to(&at, size);
    char byte = 0;
    for (int k = 0; k < ROUNDS; ++k) {
      send_all(fd, &byte, 1);
      recv_all(fd, &byte, 1);
    }
    send_all(fd, &byte, 1);
    doing("connection %d", i);
    CHECK(poll_one(fd, POLLIN | POLLRDHUP, 20000) == (POLLIN | POLLRDHUP));
    /* Nothing stays behind in TIME_WAIT. */
    const struct linger at_once = {1, 0};
    CHECK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once) == 0);
    close(fd);
  }
  int status = 0;
  CHECK(waitpid(server, &status, 0) == server && status == 0);
  close(listener);
  puts("told as a whole");
  return 0;
}
