/* SPDX-License-Identifier: Apache-2.0 */
/* One end of a killing round: sends what its plan says, reads and checks what
 * comes, both at the same time. Any end of the stream is right, wrong bytes
 * are not. Whether enough came is the driver's business.
 *   end client|server PAGE   (descriptor of the page)
 *   end sweep                (uses sockets for a moment) */
#include "io.h"
#include "page.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { LARGEST = 1 << 18 };

static struct page* page;
static enum role self;
static enum role other;
static unsigned char incoming[LARGEST];
static unsigned char outgoing[LARGEST];

_Noreturn static void fail(const char* what, long code) {
  fprintf(stderr, "seed %u, %s: %s (%ld, %s)\n", page->seed,
          self == ROLE_CLIENT ? "client" : "server", what, code,
          code < 0 ? strerror((int)-code) : "no error");
  _exit(1);
}

static void step(void) { __atomic_fetch_add(&page->ends[self].steps, 1, __ATOMIC_SEQ_CST); }

static int is_peer_death(long code) { return code == -ECONNRESET || code == -EPIPE; }

static void* read_all(void* unused) {
  const struct plan* plan = &page->plans[self];
  struct progress* mine = &page->ends[self];
  uint64_t taken = 0;
  while (plan->reads_late && !word_at(&page->ends[other].is_dead)) usleep(100);
  for (;;) {
    const long got = io_read(incoming, plan->largest, plan->is_asynchronous != 0);
    step();
    if (got == -EINTR) continue;
    if (got <= 0) {
      if (got < 0 && !is_peer_death(got)) fail("reading failed", got);
      put_word(&mine->outcome, got == 0 ? OUTCOME_END : (uint64_t)-got);
      break;
    }
    for (long i = 0; i < got; ++i) {
      if (incoming[i] != byte_of(page->seed, other, taken + (uint64_t)i)) {
        fail("a byte is wrong, number", (long)taken + i);
      }
    }
    taken += (uint64_t)got;
    put_word(&mine->received, taken);
  }
  const long after = io_read(incoming, 1, 0);
  if (after > 0) fail("a byte after the end", after);
  return unused;
}

static void write_all(void) {
  const struct plan* plan = &page->plans[self];
  struct progress* mine = &page->ends[self];
  unsigned random = page->seed * 2 + self;
  for (uint64_t sent = 0; sent < plan->to_send;) {
    uint64_t size = 1 + (uint64_t)rand_r(&random) % plan->largest;
    if (size > plan->to_send - sent) size = plan->to_send - sent;
    for (uint64_t i = 0; i < size; ++i) outgoing[i] = byte_of(page->seed, self, sent + i);
    put_word(&mine->attempted, sent + size);
    const long moved = io_write(outgoing, size);
    step();
    if (moved == -EINTR) continue;
    if (moved < 0 && is_peer_death(moved)) return;
    if (moved <= 0) fail("writing failed", moved);
    sent += (uint64_t)moved;
    put_word(&mine->published, sent);
  }
  if (plan->exits) {
    step();
    exit(0);
  }
  if (!plan->shuts) return;
  step();
  const long code = io_shutdown();
  if (code < 0 && code != -ENOTCONN) fail("shutdown failed", code);
  step();
}

int main(int count, char** arguments) {
  if (count == 2) {
    const uint16_t port = io_listen();
    io_close();
    return port == 0;
  }
  self = strcmp(arguments[1], "client") == 0 ? ROLE_CLIENT : ROLE_SERVER;
  other = self == ROLE_CLIENT ? ROLE_SERVER : ROLE_CLIENT;
  page = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, atoi(arguments[2]), 0);
  if (page == MAP_FAILED) return 2;
  long code = 0;
  if (self == ROLE_SERVER) {
    __atomic_store_n(&page->port, io_listen(), __ATOMIC_SEQ_CST);
    step();
    code = io_accept();
    step();
  } else {
    uint32_t port = 0;
    while ((port = __atomic_load_n(&page->port, __ATOMIC_SEQ_CST)) == 0) usleep(50);
    code = io_connect((uint16_t)port);
    step();
  }
  if (code < 0) {
    /* The other one died first. */
    if (self == ROLE_CLIENT && (code == -ECONNREFUSED || is_peer_death(code))) return 0;
    fail("no connection", code);
  }
  pthread_t reader;
  if (pthread_create(&reader, NULL, read_all, NULL) != 0) return 2;
  write_all();
  pthread_join(reader, NULL);
  step();
  io_close();
  step();
  return 0;
}
