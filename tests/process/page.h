/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* What the two ends of a killing round and their driver share: a page of
 * counters, the plan of each end, and bytes that know their place. C and C++. */

#include <stddef.h>
#include <stdint.h>

enum role { ROLE_CLIENT, ROLE_SERVER, ROLES };

/* Writer: the driver, before the round. */
struct plan {
  uint64_t to_send;         /* bytes */
  uint64_t largest;         /* bytes of one write or read */
  uint64_t reads_late;      /* only once the other end is dead */
  uint64_t shuts;           /* shutdown(WR) after the last byte */
  uint64_t exits;           /* after the last byte, without reading to the end */
  uint64_t is_asynchronous; /* reads, where the program can */
};

/* Writer: that end, except `is_dead`. */
struct progress {
  uint64_t steps;     /* grows with each call that came back */
  uint64_t attempted; /* bytes, before each write */
  uint64_t published; /* bytes, after it */
  uint64_t received;  /* bytes that were right */
  uint64_t outcome;   /* of reading: 0 none yet, OUTCOME_END, else errno */
  uint64_t is_dead;   /* writer: the driver */
};
enum { OUTCOME_END = 10000 };

struct page {
  uint32_t seed;
  uint32_t port; /* of the server, once it listens */
  struct plan plans[ROLES];
  struct progress ends[ROLES];
};

static inline void put_word(uint64_t* at, uint64_t value) {
  __atomic_store_n(at, value, __ATOMIC_SEQ_CST);
}
static inline uint64_t word_at(const uint64_t* at) { return __atomic_load_n(at, __ATOMIC_SEQ_CST); }

/* Byte number `at` of what an end sends in the round of that seed. */
static inline unsigned char byte_of(uint32_t seed, enum role of, uint64_t at) {
  const uint64_t mixed =
      (at + ((uint64_t)seed * 2 + (uint64_t)of) * 0x9E3779B9u + 1) * 0x9E3779B97F4A7C15u;
  return (unsigned char)(mixed >> 40);
}
