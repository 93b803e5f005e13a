// SPDX-License-Identifier: Apache-2.0
#pragma once
// Marks a definition that takes the place of a libc function. Its name must
// also stand in exports.map. The libc headers must be included without
// _FORTIFY_SOURCE, or their inline wrappers collide with the hooks.

#define SHIM_HOOK extern "C" __attribute__((visibility("default")))
