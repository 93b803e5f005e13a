/* SPDX-License-Identifier: Apache-2.0 */
/* One more process that uses sockets for a moment: whoever comes to a fabric
 * removes what dead processes left there. */
#include "ends.h"

int main(void) {
  struct sockaddr_storage at;
  socklen_t size;
  return close(listen_at(V4, &at, &size));
}
