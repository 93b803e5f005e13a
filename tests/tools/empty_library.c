/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in for the preload library where only its name matters. */
extern int dibsock_empty_library;
int dibsock_empty_library = 1;
