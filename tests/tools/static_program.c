/* SPDX-License-Identifier: Apache-2.0 */
/* Linked statically: no dynamic linker runs before it. */
#include <unistd.h>

int main(void) { return write(1, "static\n", 7) == 7 ? 0 : 1; }
