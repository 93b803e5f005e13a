/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* One connection of a program, by plain sockets or by dibsock::socket. All
 * calls wait. A read and a write may run at the same time. They give what
 * read(2) and write(2) give, and minus errno for an error. */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

uint16_t io_listen(void); /* gives the port */
long io_accept(void);
long io_connect(uint16_t port);
long io_read(void* to, size_t size, int is_asynchronous);
long io_write(const void* from, size_t size);
long io_shutdown(void); /* the sending direction */
void io_close(void);

#ifdef __cplusplus
}
#endif
