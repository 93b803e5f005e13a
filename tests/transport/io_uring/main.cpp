// SPDX-License-Identifier: Apache-2.0
// Runs the tests, unless this machine lets nobody use io_uring.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <liburing.h>

#include <cstdio>
#include <cstring>

int main(int count, char** arguments) {
  io_uring ring;
  if (const int answer = ::io_uring_queue_init(8, &ring, 0); answer < 0) {
    std::printf("skipped: io_uring_setup is refused here: %s\n", std::strerror(-answer));
    return 77;
  }
  ::io_uring_queue_exit(&ring);
  return doctest::Context(count, arguments).run();
}
