// SPDX-License-Identifier: Apache-2.0
#pragma once
// Marks a definition that takes the place of a libc function. Its name must
// also stand in exports.map. The libc headers must be included without
// _FORTIFY_SOURCE, or their inline wrappers collide with the hooks.

#define SHIM_HOOK extern "C" __attribute__((visibility("default")))

// Aliases of a hook need not repeat what the libc headers promise of it.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmissing-attributes"
#endif
