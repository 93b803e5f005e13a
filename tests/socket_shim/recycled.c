/* SPDX-License-Identifier: Apache-2.0 */
#include "ends.h"
int main(void) { return 0; }
