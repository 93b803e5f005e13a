/* SPDX-License-Identifier: Apache-2.0 */
/* One thread listens, connects to itself, accepts, and talks. Kernel TCP takes
 * some megabytes before anybody reads, and programs rely on that. */
#include "ends.h"

enum { MUCH = 3 << 20 };

static void much_each_way(struct pair p) {
  char* bytes = malloc(MUCH);
  CHECK(bytes != NULL);
  fill(bytes, MUCH, 1, 0);
  send_all(p.ours.fd, bytes, MUCH);
  fill(bytes, MUCH, 2, 0);
  send_all(p.theirs.fd, bytes, MUCH);
  recv_all(p.theirs.fd, bytes, MUCH);
  verify(bytes, MUCH, 1, 0);
  recv_all(p.ours.fd, bytes, MUCH);
  verify(bytes, MUCH, 2, 0);
  /* And after all this it is a connection as before. */
  warm_up(p);
  close_pair(p);
  free(bytes);
}

/* Again and again, in pieces that do not divide anything evenly. */
static void in_turns(struct pair p) {
  uint64_t at = 0;
  for (int turn = 0; turn < 40; ++turn) {
    const size_t size = 17 + (size_t)turn * 3571;
    end_put(p.ours, size, 3, at);
    end_put(p.theirs, size, 4, at);
    end_take(p.theirs, size, 3, at);
    end_take(p.ours, size, 4, at);
    at += size;
  }
  close_pair(p);
}

static void last_bytes_of_both(struct pair p) {
  char byte;
  send_all(p.ours.fd, "x", 1);
  CHECK(shutdown(p.ours.fd, SHUT_WR) == 0);
  CHECK(recv(p.theirs.fd, &byte, 1, 0) == 1 && byte == 'x');
  CHECK(recv(p.theirs.fd, &byte, 1, 0) == 0);
  send_all(p.theirs.fd, "y", 1);
  CHECK(close(p.theirs.fd) == 0);
  CHECK(recv(p.ours.fd, &byte, 1, 0) == 1 && byte == 'y');
  CHECK(recv(p.ours.fd, &byte, 1, 0) == 0);
  CHECK(close(p.ours.fd) == 0);
}

int main(void) {
  has_system_defaults = 1; /* what 3 MiB unread need */
  run_with("much each way", SELF, much_each_way);
  run_with("in turns", SELF, in_turns);
  run_with("last bytes", SELF, last_bytes_of_both);
  /* Many connections one after the other, and many at once. */
  doing("many connections");
  for (int i = 0; i < 100; ++i) {
    const struct pair p = make_pair(SELF, (enum family)(i % 3));
    warm_up(p);
    close_pair(p);
  }
  struct pair many[60];
  for (int i = 0; i < 60; ++i) many[i] = make_pair(SELF, V4);
  for (int round = 0; round < 12; ++round) {
    for (int i = 0; i < 60; ++i) end_put(many[i].ours, 100, (uint32_t)i, (uint64_t)round * 100);
    for (int i = 0; i < 60; ++i) end_take(many[i].theirs, 100, (uint32_t)i, (uint64_t)round * 100);
    for (int i = 59; i >= 0; --i) end_put(many[i].theirs, 100, (uint32_t)i, (uint64_t)round * 100);
    for (int i = 59; i >= 0; --i) end_take(many[i].ours, 100, (uint32_t)i, (uint64_t)round * 100);
  }
  for (int i = 0; i < 60; ++i) check_lane(many[i]);
  for (int i = 0; i < 60; ++i) close_pair(many[i]);
  printf("many: ok\n");
  return 0;
}
