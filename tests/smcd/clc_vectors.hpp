// SPDX-License-Identifier: Apache-2.0
#pragma once
// CLC messages byte for byte, written down from the layout tables and not by
// our encoder.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace vectors {

using bytes = std::vector<std::byte>;

// Lower-case hexadecimal digits; blanks are skipped.
inline bytes from_hex(std::string_view text) {
  bytes made;
  unsigned value = 1;  // the leading 1 tells when two digits are there
  for (const char c : text) {
    if (c == ' ') continue;
    value = value * 16 + static_cast<unsigned>(c <= '9' ? c - '0' : c - 'a' + 10);
    if (value < 256) continue;
    made.push_back(static_cast<std::byte>(value & 0xFF));
    value = 1;
  }
  return made;
}

inline std::string zeros(std::size_t count) { return std::string(2 * count, '0'); }
inline std::string blanks(std::size_t count) {
  std::string made;
  while (count-- > 0) made += "20";
  return made;
}

inline const std::string mycluster = "4d59434c55535445522d3031" + blanks(20);
inline const std::string hosta = "686f737461" + blanks(27);
inline const std::string smcr = "e2d4c3d9";
inline const std::string smcd = "e2d4c3c4";
inline const std::string gid_upper = "1111111111111111";
inline const std::string gid_lower = "2222222222222222";

// Version 2.1, loopback only, UEID "MYCLUSTER-01": 224 bytes.
inline bytes proposal() {
  return from_hex(smcr + "0100e026" + zeros(40)              // 0: base
                  + zeros(2) + "001c" + zeros(28)            // 48: SMC-D area
                  + "0102001000000040" + zeros(16)           // 80: v2 extension
                  + "00000001" + zeros(12)                   // 104
                  + mycluster                                // 120
                  + zeros(48)                                // 152: SMC-D v2 extension
                  + gid_upper + "ffff" + gid_lower + "ffff"  // 200
                  + smcr);                                   // 220
}

// The answer, first contact, token 0x0102030405060708, 1 MiB: 130 bytes.
inline bytes accept_first() {
  return from_hex(smcd + "02008229" + gid_upper + "0102030405060708" + "0060000000000100" + "ffff" +
                  mycluster + gid_lower     // 24
                  + "00210000" + hosta      // 74: first contact
                  + "00000001" + zeros(12)  // 110: release 1
                  + smcd);                  // 126
}

// The same in release 0: 114 bytes.
inline bytes accept_first_release_0() {
  return from_hex(smcd + "02007229" + gid_upper + "0102030405060708" + "0060000000000100" + "ffff" +
                  mycluster + gid_lower + "00200000" + hosta + smcd);
}

// Not the first contact: 78 bytes.
inline bytes accept_again() {
  return from_hex(smcd + "02004e21" + gid_upper + "0102030405060708" + "0060000000000100" + "ffff" +
                  mycluster + gid_lower + smcd);
}

// Version 1: 48 bytes.
inline bytes accept_v1() {
  return from_hex(smcd + "02003011" + gid_upper + "0102030405060708" + "0060000000000100" +
                  zeros(12) + smcd);
}

// NOUEID: 44 bytes, and 28 in version 1.
inline bytes decline() {
  return from_hex(smcr + "04002c20" + zeros(8) + "03030008" + "20000000" + zeros(16) + smcr);
}
inline bytes decline_v1() {
  return from_hex(smcr + "04001c10" + zeros(8) + "03030008" + "00000000" + smcr);
}

// The same message in the other role.
inline bytes as_confirm(bytes accept) {
  accept[4] = std::byte{3};
  return accept;
}

}  // namespace vectors
