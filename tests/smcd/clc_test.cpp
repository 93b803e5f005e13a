// SPDX-License-Identifier: Apache-2.0
#include <smcd/clc.hpp>

#include "clc_vectors.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>

namespace clc = smcd::clc;
using vectors::bytes;
using vectors::from_hex;
using vectors::zeros;

namespace {

dibs::gid gid_of(std::uint8_t upper, std::uint8_t lower) {
  dibs::gid gid;
  std::fill_n(gid.bytes.begin(), 8, upper);
  std::fill_n(gid.bytes.begin() + 8, 8, lower);
  return gid;
}

std::array<char, 32> host_of(std::string_view name) { return smcd::padded_eid(name).characters; }

// The values of the vectors.

clc::proposal proposal_value() {
  clc::proposal value;
  value.ueid_count = 1;
  value.ueids[0] = smcd::padded_eid("MYCLUSTER-01");
  value.device_count = 1;
  value.devices[0] = {gid_of(0x11, 0x22), dibs::loopback_fabric};
  return value;
}

clc::accept_confirm accept_value() {
  clc::accept_confirm value;
  value.first_contact = true;
  value.size_code = 6;
  value.gid = gid_of(0x11, 0x22);
  value.token = {0x0102030405060708};
  value.link_id = 0x100;
  value.fabric = dibs::loopback_fabric;
  value.negotiated_eid = smcd::padded_eid("MYCLUSTER-01");
  value.release = 1;
  value.features = 1;
  value.host = host_of("hosta");
  return value;
}

clc::accept_confirm accept_release_0_value() {
  clc::accept_confirm value = accept_value();
  value.release = 0;
  value.features = 0;
  return value;
}

clc::accept_confirm accept_again_value() {
  clc::accept_confirm value = accept_release_0_value();
  value.first_contact = false;
  value.host = {};
  return value;
}

clc::accept_confirm accept_v1_value() {
  clc::accept_confirm value = accept_again_value();
  value.version = 1;
  value.gid = gid_of(0x11, 0);
  value.fabric = {};
  value.negotiated_eid = {};
  return value;
}

clc::accept_confirm as_confirm(clc::accept_confirm value) {
  value.type = clc::message_type::confirm;
  return value;
}

template <class T>
bytes encoded(const T& value) {
  std::array<std::byte, clc::max_message_size> out{};
  const std::size_t size = encode(value, out);
  return {out.begin(), out.begin() + static_cast<std::ptrdiff_t>(size)};
}

enum class answer { invalid, need_more, message };

answer answer_to(std::span<const std::byte> in) {
  const clc::decoded got = clc::decode(in);
  if (got.is_message()) return answer::message;
  return got.get_if<clc::need_more>() != nullptr ? answer::need_more : answer::invalid;
}

template <class T>
bool decodes_to(const bytes& in, const T& wanted) {
  const clc::decoded got = clc::decode(in);
  return got.size == in.size() && got.get_if<T>() != nullptr && *got.get_if<T>() == wanted;
}

bytes with(bytes message, std::size_t at, unsigned value) {
  message.at(at) = static_cast<std::byte>(value);
  return message;
}

// One of each kind that decodes.
std::vector<bytes> all_messages() {
  std::vector<bytes> all{vectors::proposal(), vectors::decline(), vectors::decline_v1()};
  for (const bytes& accept : {vectors::accept_first(), vectors::accept_first_release_0(),
                              vectors::accept_again(), vectors::accept_v1()}) {
    all.push_back(accept);
    all.push_back(vectors::as_confirm(accept));
  }
  return all;
}

// A Proposal as other implementations may send it.
struct foreign {
  unsigned v1 = 2;  // 0 SMC-R, 1 SMC-D, 2 neither, 3 both
  unsigned v2 = 1;
  unsigned ipv6 = 0;
  unsigned ueids = 1;
  std::string seid = zeros(32);
  unsigned flags = 0x10;
  std::vector<std::string> places{vectors::gid_upper + "ffff", vectors::gid_lower + "ffff"};
  bool has_v2 = true;
  bool has_smcd_v2 = true;
  unsigned version = 2;

  [[nodiscard]] static std::string hex(std::size_t value, std::size_t digits) {
    std::string made(digits, '0');
    for (; digits-- > 0; value /= 16) made[digits] = "0123456789abcdef"[value % 16];
    return made;
  }

  [[nodiscard]] bytes build() const {
    std::string prefixes;
    if (v1 != 2) {
      prefixes =
          "0a000000"
          "18"
          "0000" +
          hex(ipv6, 2);
      for (unsigned i = 0; i < ipv6; ++i) prefixes += "fe80" + zeros(14) + "40";
    }
    std::string v2_part;
    if (v2 != 2 && has_v2) {
      const bool has_list = (v2 == 1 || v2 == 3) && has_smcd_v2;
      v2_part = hex(ueids, 2) + hex(places.size(), 2) + "00" + hex(flags, 2) + "0000" +
                (has_list ? hex(32 + 32 * ueids, 4) : "0000") + std::string(32, 'a') + "1002" +
                "0001" + zeros(12);
      for (unsigned i = 0; i < ueids; ++i) v2_part += vectors::mycluster;
      if (has_list) {
        v2_part += seid + zeros(16);
        for (const std::string& place : places) v2_part += place;
      }
    }
    std::string body = std::string(16, 'b') + std::string(32, 'c') + std::string(12, 'd') +
                       (v1 == 2 ? "0000" : "0028");
    const std::size_t v2_offset = v2_part.empty() ? 0 : 28 + prefixes.size() / 2;
    body += (v1 == 1 || v1 == 3 ? "3333333333333333" : zeros(8)) + "0000" + hex(v2_offset, 4) +
            zeros(28) + prefixes + v2_part + vectors::smcr;
    return from_hex(vectors::smcr + "01" + hex(8 + body.size() / 2, 4) +
                    hex(version << 4 | v2 << 2 | v1, 2) + body);
  }
};

}  // namespace

TEST_CASE("clc: each value is encoded byte for byte as the vectors say") {
  CHECK(encoded(proposal_value()) == vectors::proposal());
  CHECK(encoded(accept_value()) == vectors::accept_first());
  CHECK(encoded(accept_release_0_value()) == vectors::accept_first_release_0());
  CHECK(encoded(accept_again_value()) == vectors::accept_again());
  CHECK(encoded(accept_v1_value()) == vectors::accept_v1());
  CHECK(encoded(as_confirm(accept_value())) == vectors::as_confirm(vectors::accept_first()));
  CHECK(encoded(clc::decline{2, smcd::decline_code::no_ueid}) == vectors::decline());
  CHECK(encoded(clc::decline{1, smcd::decline_code::no_ueid}) == vectors::decline_v1());
}

TEST_CASE("clc: the vectors decode to the values they were made from") {
  CHECK(decodes_to(vectors::proposal(), proposal_value()));
  CHECK(decodes_to(vectors::accept_first(), accept_value()));
  CHECK(decodes_to(vectors::accept_first_release_0(), accept_release_0_value()));
  CHECK(decodes_to(vectors::accept_again(), accept_again_value()));
  CHECK(decodes_to(vectors::accept_v1(), accept_v1_value()));
  CHECK(decodes_to(vectors::as_confirm(vectors::accept_first()), as_confirm(accept_value())));
  CHECK(decodes_to(vectors::decline(), clc::decline{2, smcd::decline_code::no_ueid}));
  CHECK(decodes_to(vectors::decline_v1(), clc::decline{1, smcd::decline_code::no_ueid}));
}

TEST_CASE("clc: the lengths are those of SMC-D") {
  CHECK(vectors::proposal().size() == 224);
  CHECK(vectors::accept_first().size() == 130);
  CHECK(vectors::accept_first_release_0().size() == 114);
  CHECK(vectors::accept_again().size() == 78);
  CHECK(vectors::accept_v1().size() == 48);
  CHECK(vectors::decline().size() == 44);
  CHECK(vectors::decline_v1().size() == 28);
}

TEST_CASE("clc: the nonce of a Proposal stands in the bytes 52 to 59") {
  clc::proposal value = proposal_value();
  value.nonce = 0x0102030405060708;
  bytes wanted = vectors::proposal();
  for (unsigned i = 0; i < 8; ++i) wanted[52 + i] = static_cast<std::byte>(i + 1);
  CHECK(encoded(value) == wanted);
  CHECK(decodes_to(wanted, value));
}

TEST_CASE("clc: a beginning of a message needs more, and says how much") {
  for (const bytes& message : all_messages()) {
    for (std::size_t n = 0; n < message.size(); ++n) {
      CAPTURE(n);
      const clc::decoded got = clc::decode(std::span(message).first(n));
      REQUIRE(got.get_if<clc::need_more>() != nullptr);
      CHECK(got.size == (n < clc::header_size ? clc::header_size : message.size()));
    }
    CHECK(clc::decode(message).size == message.size());
  }
}

TEST_CASE("clc: what follows a message is left alone") {
  for (const bytes& message : all_messages()) {
    const clc::decoded alone = clc::decode(message);
    for (const unsigned next : {0x00U, 0xE2U, 0xFFU}) {
      bytes more = message;
      more.insert(more.end(), 700, static_cast<std::byte>(next));
      const clc::decoded got = clc::decode(more);
      CHECK(got.size == message.size());
      CHECK(got.what.index() == alone.what.index());
    }
  }
}

TEST_CASE("clc: two messages are found one after the other wherever the stream is split") {
  for (const bytes& first : all_messages()) {
    for (const bytes& second : all_messages()) {
      bytes stream = first;
      stream.insert(stream.end(), second.begin(), second.end());
      for (std::size_t split = 0; split <= stream.size(); ++split) {
        std::size_t taken = 0;
        std::size_t found = 0;
        for (const std::size_t end : {split, stream.size()}) {
          for (;;) {
            const auto got = clc::decode(std::span(stream).first(end).subspan(taken));
            REQUIRE(got.get_if<clc::invalid>() == nullptr);
            if (!got.is_message()) break;
            taken += got.size;
            ++found;
          }
        }
        REQUIRE(found == 2);
        REQUIRE(taken == stream.size());
      }
    }
  }
}

TEST_CASE("clc: foreign bytes are invalid by the first one that differs") {
  const std::string texts[] = {"G", "GET / HTTP/1.1\r\n", "SSH-2.0", std::string(1, '\x16'),
                               std::string(1, '\0')};
  for (const std::string& text : texts) {
    CHECK(answer_to(std::as_bytes(std::span(text))) == answer::invalid);
  }
  for (std::size_t right = 0; right < 4; ++right) {
    bytes begin = from_hex("e2d4c3");
    begin.resize(right);
    begin.push_back(std::byte{0x20});
    CHECK(answer_to(begin) == answer::invalid);
  }
  CHECK(answer_to({}) == answer::need_more);
}

TEST_CASE("clc: a header that no message has is invalid before the rest is there") {
  const struct {
    const char* what;
    const char* header;
  } table[] = {
      {"type 0", "e2d4c3d9 00 00e0 26"},
      {"type 5", "e2d4c3d9 05 00e0 26"},
      {"version 0", "e2d4c3d9 01 00e0 06"},
      {"version 3", "e2d4c3d9 01 00e0 36"},
      {"length 0", "e2d4c3d9 01 0000 26"},
      {"Proposal too short", "e2d4c3d9 01 0053 26"},
      {"Proposal too long", "e2d4c3d9 01 028d 26"},
      {"Proposal v1 too short", "e2d4c3d9 01 0033 11"},
      {"Proposal v1 too long", "e2d4c3d9 01 00e5 11"},
      {"Accept neither", "e2d4c3c4 02 004e 22"},
      {"Accept both", "e2d4c3c4 02 004e 23"},
      {"Accept 77", "e2d4c3c4 02 004d 21"},
      {"Accept 79", "e2d4c3c4 02 004f 21"},
      {"Accept 130, not first contact", "e2d4c3c4 02 0082 21"},
      {"Accept 78, first contact", "e2d4c3c4 02 004e 29"},
      {"Accept 113, first contact", "e2d4c3c4 02 0071 29"},
      {"Accept 131, first contact", "e2d4c3c4 02 0083 29"},
      {"Confirm v1 47", "e2d4c3c4 03 002f 11"},
      {"Confirm v1 49", "e2d4c3c4 03 0031 11"},
      {"SMC-R Accept v1 67", "e2d4c3d9 02 0043 10"},
      {"SMC-R Accept 107", "e2d4c3d9 02 006b 20"},
      {"SMC-R Accept too long", "e2d4c3d9 02 028d 20"},
      {"Decline 43", "e2d4c3d9 04 002b 20"},
      {"Decline 28 in version 2", "e2d4c3d9 04 001c 20"},
      {"Decline 44 in version 1", "e2d4c3d9 04 002c 10"},
      {"Decline ffff", "e2d4c3d9 04 ffff 20"},
  };
  for (const auto& row : table) {
    CAPTURE(row.what);
    const bytes header = from_hex(row.header);
    REQUIRE(header.size() == clc::header_size);
    CHECK(answer_to(header) == answer::invalid);
    CHECK(answer_to(std::span(header).first(7)) == answer::need_more);
  }
}

TEST_CASE("clc: the longest Proposal decodes") {
  foreign from;
  from.v1 = 3;
  from.v2 = 3;
  from.ipv6 = 8;
  from.ueids = 8;
  from.places.assign(8, vectors::gid_upper + "ffff");
  const bytes message = from.build();
  CHECK(message.size() == clc::max_message_size);
  const clc::decoded got = clc::decode(message);
  REQUIRE(got.get_if<clc::proposal>() != nullptr);
  CHECK(got.get_if<clc::proposal>()->ueid_count == 8);
  CHECK(got.get_if<clc::proposal>()->device_count == 4);
  CHECK(decodes_to(encoded(*got.get_if<clc::proposal>()), *got.get_if<clc::proposal>()));
}

TEST_CASE("clc: a Proposal with a list longer than the maximum is invalid, its length aside") {
  foreign ueids;
  ueids.ueids = 9;
  foreign devices;
  devices.places.assign(9, vectors::gid_upper + "0007");
  foreign prefixes;
  prefixes.v1 = 3;
  prefixes.ipv6 = 9;
  for (const foreign& from : {ueids, devices, prefixes}) {
    const bytes message = from.build();
    REQUIRE(message.size() <= clc::max_message_size);
    CHECK(answer_to(message) == answer::invalid);
  }
}

TEST_CASE("clc: Proposals of any technology decode, with what they hold of SMC-D version 2") {
  for (unsigned v1 = 0; v1 < 4; ++v1) {
    for (unsigned v2 = 0; v2 < 4; ++v2) {
      for (const unsigned ipv6 : {0U, 1U, 8U}) {
        for (const unsigned ueids : {0U, 1U, 8U}) {
          CAPTURE(v1);
          CAPTURE(v2);
          foreign from;
          from.v1 = v1;
          from.v2 = v2;
          from.ipv6 = ipv6;
          from.ueids = ueids;
          const clc::decoded got = clc::decode(from.build());
          const auto* found = got.get_if<clc::proposal>();
          REQUIRE(found != nullptr);
          const bool has_smcd = v2 == 1 || v2 == 3;
          CHECK(found->version == 2);
          CHECK(found->has_v2 == (v2 != 2));
          CHECK(found->has_smcd_v2 == has_smcd);
          CHECK(found->ueid_count == (v2 != 2 ? ueids : 0));
          CHECK(found->device_count == (has_smcd ? 1 : 0));
          CHECK(found->nonce == 0);
          if (has_smcd) {
            CHECK(found->devices[0] == proposal_value().devices[0]);
            CHECK(found->release == 1);
            CHECK(found->features == 1);
          }
        }
      }
    }
  }
}

TEST_CASE("clc: a Proposal may leave out its extensions") {
  foreign from;
  from.has_smcd_v2 = false;
  clc::decoded got = clc::decode(from.build());
  REQUIRE(got.get_if<clc::proposal>() != nullptr);
  CHECK(got.get_if<clc::proposal>()->has_v2);
  CHECK_FALSE(got.get_if<clc::proposal>()->has_smcd_v2);
  from.has_v2 = false;
  got = clc::decode(from.build());
  REQUIRE(got.get_if<clc::proposal>() != nullptr);
  CHECK_FALSE(got.get_if<clc::proposal>()->has_v2);
  CHECK(got.get_if<clc::proposal>()->release == 0);
  CHECK(got.get_if<clc::proposal>()->features == 0);
}

TEST_CASE("clc: a version 1 Proposal decodes, with and without its SMC-D area") {
  const std::string prefixes =
      "0a000000"
      "18"
      "0000"
      "01"
      "fe80" +
      zeros(14) + "40";
  const bytes smcr_only =
      from_hex(vectors::smcr + "01004510" + zeros(30) + "0000" + prefixes + vectors::smcr);
  const bytes smcd_too = from_hex(vectors::smcr + "01006d13" + zeros(30) + "0028" + zeros(40) +
                                  prefixes + vectors::smcr);
  for (const bytes& message : {smcr_only, smcd_too}) {
    const clc::decoded got = clc::decode(message);
    CHECK(got.size == message.size());
    REQUIRE(got.get_if<clc::proposal>() != nullptr);
    CHECK(got.get_if<clc::proposal>()->version == 1);
    CHECK_FALSE(got.get_if<clc::proposal>()->has_v2);
  }
  CHECK(answer_to(with(smcr_only, 7, 0x11)) == answer::invalid);  // SMC-D without its area
  CHECK(answer_to(with(smcr_only, 7, 0x12)) == answer::invalid);  // offers nothing
  CHECK(answer_to(with(smcr_only, 39, 1)) == answer::invalid);
  CHECK(answer_to(with(smcd_too, 39, 41)) == answer::invalid);
}

TEST_CASE("clc: half an emulated device is skipped, native ones have 64 bits") {
  const std::string up = vectors::gid_upper;
  const std::string low = vectors::gid_lower;
  const clc::device_name loopback{gid_of(0x11, 0x22), {0xFFFF}};
  const clc::device_name native{gid_of(0x11, 0), {0x0007}};
  const clc::device_name virtio{gid_of(0x22, 0x11), {0xFF00}};
  const struct {
    std::vector<std::string> places;
    std::vector<clc::device_name> wanted;
  } table[] = {
      {{}, {}},
      {{up + "ffff"}, {}},
      {{up + "ffff", low + "fffe"}, {}},
      {{up + "ffff", up + "0007"}, {native}},
      {{up + "0007"}, {native}},
      {{up + "ffff", low + "ffff"}, {loopback}},
      {{up + "0007", up + "ffff", low + "ffff", low + "ff00", up + "ff00"},
       {native, loopback, virtio}},
      {{low + "fffe", up + "ffff", low + "ffff"}, {loopback}},
      {{up + "ffff", low + "ffff", up + "ffff"}, {loopback}},
      {{up + "0007", up + "0007", up + "0007", up + "0007", up + "0007", up + "0007", up + "0007",
        up + "ffff"},
       std::vector<clc::device_name>(7, native)},
      {std::vector<std::string>(8, up + "0007"), std::vector<clc::device_name>(8, native)},
  };
  for (const auto& row : table) {
    foreign from;
    from.places = row.places;
    const clc::decoded got = clc::decode(from.build());
    const auto* found = got.get_if<clc::proposal>();
    REQUIRE(found != nullptr);
    REQUIRE(found->device_count == row.wanted.size());
    CHECK(std::equal(row.wanted.begin(), row.wanted.end(), found->devices.begin()));
    CHECK(decodes_to(encoded(*found), *found));
  }
}

TEST_CASE("clc: the SEID is taken if it is said to be usable") {
  foreign from;
  from.seid = vectors::mycluster;
  clc::decoded got = clc::decode(from.build());
  CHECK(got.get_if<clc::proposal>()->seid.is_none());
  CHECK_FALSE(got.get_if<clc::proposal>()->has_seid);
  from.flags = 0x11;
  got = clc::decode(from.build());
  const auto* found = got.get_if<clc::proposal>();
  CHECK(found->has_seid);
  CHECK(found->seid.text() == "MYCLUSTER-01");
  CHECK(decodes_to(encoded(*found), *found));
}

TEST_CASE("clc: counts and offsets of a Proposal lead nowhere but to its parts") {
  const bytes good = vectors::proposal();
  const std::size_t checked[] = {38, 39, 50, 51, 80, 81, 86, 87};
  for (const std::size_t at : checked) {
    for (unsigned value = 0; value < 256; ++value) {
      // Prefix offsets up to 40 are allowed though there are no prefixes.
      if (good[at] == static_cast<std::byte>(value) || (at == 39 && value <= 40)) continue;
      CAPTURE(at);
      CAPTURE(value);
      CHECK(answer_to(with(good, at, value)) == answer::invalid);
    }
  }
  foreign from;
  from.v1 = 3;
  from.ipv6 = 8;
  const bytes prefixed = from.build();
  REQUIRE(answer_to(prefixed) == answer::message);
  for (unsigned value = 0; value < 256; ++value) {
    if (value != 8) CHECK(answer_to(with(prefixed, 87, value)) == answer::invalid);
    if (value != 40) CHECK(answer_to(with(prefixed, 39, value)) == answer::invalid);
  }
}

TEST_CASE("clc: an offset of zero does not hide bytes that are there") {
  CHECK(answer_to(with(vectors::proposal(), 51, 0)) == answer::invalid);
  CHECK(answer_to(with(vectors::proposal(), 87, 0)) == answer::invalid);
}

TEST_CASE("clc: an Accept with an impossible buffer is invalid") {
  for (const bytes& good : {vectors::accept_first(), vectors::accept_again(), vectors::accept_v1(),
                            vectors::as_confirm(vectors::accept_first())}) {
    for (unsigned code = 0; code < 16; ++code) {
      const bytes message = with(good, 25, code << 4 | 0x0F);
      CHECK(answer_to(message) == (code <= 8 ? answer::message : answer::invalid));
    }
    CHECK(answer_to(with(good, 24, 1)) == answer::invalid);
    CHECK(answer_to(with(good, 24, 255)) == answer::invalid);
  }
}

TEST_CASE("clc: the release and the length of a first contact must fit each other") {
  for (unsigned release = 0; release < 16; ++release) {
    CHECK(answer_to(with(vectors::accept_first(), 75, 0x20 | release)) ==
          (release >= 1 ? answer::message : answer::invalid));
    CHECK(answer_to(with(vectors::accept_first_release_0(), 75, 0x20 | release)) ==
          (release == 0 ? answer::message : answer::invalid));
  }
}

TEST_CASE("clc: an Accept of the highest release and the largest buffer is encoded") {
  clc::accept_confirm value = accept_value();
  value.release = 15;
  value.size_code = clc::max_size_code;
  value.features = 0xFFFF;
  CHECK(decodes_to(encoded(value), value));
}

TEST_CASE("clc: an SMC-R Accept is recognised and nothing of it is read") {
  const bytes v1 = from_hex(vectors::smcr + "02004410" + std::string(112, 'f') + vectors::smcr);
  const bytes v2 = from_hex(vectors::smcr + "02006c20" + std::string(192, 'f') + vectors::smcr);
  for (const bytes& message : {v1, v2}) {
    clc::accept_confirm wanted;
    wanted.version = message.size() == 68 ? 1 : 2;
    wanted.chosen = clc::technology::smcr;
    CHECK(decodes_to(message, wanted));
  }
}

TEST_CASE("clc: the trailer is an eyecatcher, whichever, or the message is invalid") {
  for (const bytes& good : all_messages()) {
    bytes message = good;
    const std::size_t last = message.size() - 1;
    for (const unsigned value : {0xD9U, 0xC4U}) {
      CHECK(answer_to(with(message, last, value)) == answer::message);
      CHECK(answer_to(with(message, 3, value)) == answer::message);
    }
    for (std::size_t at = last - 3; at <= last; ++at) {
      CHECK(answer_to(with(message, at, 0)) == answer::invalid);
    }
  }
}

TEST_CASE("clc: any byte changed to any value is invalid or decodes within the message") {
  std::vector<bytes> all = all_messages();
  foreign from;
  from.v1 = 3;
  from.v2 = 3;
  from.ipv6 = 2;
  from.ueids = 2;
  all.push_back(from.build());
  for (const bytes& good : all) {
    for (std::size_t at = 0; at < good.size(); ++at) {
      for (unsigned value = 0; value < 256; ++value) {
        const bytes changed = with(good, at, value);
        const clc::decoded got = clc::decode(changed);
        if (got.is_message()) {
          REQUIRE(got.size == changed.size());
        } else if (got.get_if<clc::need_more>() != nullptr) {
          REQUIRE(got.size > changed.size());
        } else {
          REQUIRE(got.size == 0);
        }
        if (at < 3) REQUIRE(got.is_message() == (changed == good));
      }
    }
  }
}

TEST_CASE("clc: a message that was decoded and encoded again decodes to the same") {
  for (const bytes& message : all_messages()) {
    const clc::decoded got = clc::decode(message);
    if (const auto* found = got.get_if<clc::proposal>()) CHECK(encoded(*found) == message);
    if (const auto* found = got.get_if<clc::accept_confirm>()) CHECK(encoded(*found) == message);
    if (const auto* found = got.get_if<clc::decline>()) CHECK(encoded(*found) == message);
  }
}

TEST_CASE("clc: nothing is written where the message does not fit") {
  const auto check = [](const auto& value) {
    const std::size_t size = encoded(value).size();
    REQUIRE(size > 0);
    for (std::size_t room = 0; room <= size; ++room) {
      bytes out(size + 8, std::byte{0x5A});
      CHECK(encode(value, std::span(out).first(room)) == (room == size ? size : 0));
      const std::size_t written = room == size ? size : 0;
      CHECK(std::all_of(out.begin() + static_cast<std::ptrdiff_t>(written), out.end(),
                        [](std::byte b) { return b == std::byte{0x5A}; }));
    }
  };
  check(proposal_value());
  check(accept_value());
  check(accept_release_0_value());
  check(accept_again_value());
  check(accept_v1_value());
  check(clc::decline{});
  check(clc::decline{1, smcd::decline_code::memory});
}

TEST_CASE("clc: a value without an encoding is not encoded") {
  const auto changed = [](auto value, auto change) {
    change(value);
    return encoded(value).size();
  };
  const auto proposal = [&](auto change) { return changed(proposal_value(), change); };
  const auto accept = [&](auto change) { return changed(accept_value(), change); };
  CHECK(proposal([](auto& value) { value.version = 1; }) == 0);
  CHECK(proposal([](auto& value) { value.ueid_count = 9; }) == 0);
  CHECK(proposal([](auto& value) { value.device_count = 9; }) == 0);
  CHECK(proposal([](auto& value) { value.release = 16; }) == 0);
  CHECK(proposal([](auto& value) { value.has_v2 = false; }) == 0);
  CHECK(accept([](auto& value) { value.version = 3; }) == 0);
  CHECK(accept([](auto& value) { value.version = 0; }) == 0);
  CHECK(accept([](auto& value) { value.size_code = 9; }) == 0);
  CHECK(accept([](auto& value) { value.release = 16; }) == 0);
  CHECK(accept([](auto& value) { value.type = clc::message_type::decline; }) == 0);
  CHECK(accept([](auto& value) { value.chosen = clc::technology::smcr; }) == 0);
  CHECK(encoded(clc::decline{0, {}}).empty());
  CHECK(encoded(clc::decline{3, {}}).empty());
}

TEST_CASE("clc: devices that find no place are left out of a Proposal") {
  clc::proposal value = proposal_value();
  value.device_count = 6;
  for (unsigned i = 0; i < 6; ++i) value.devices[i] = {gid_of(1, 2), {0xFFFF}};
  value.devices[3].fabric = {0x0001};
  value.devices[3].gid = gid_of(1, 0);
  const clc::decoded got = clc::decode(encoded(value));
  REQUIRE(got.get_if<clc::proposal>() != nullptr);
  // 2 + 2 + 2 + 1 places; one is left, which is too few for the others.
  CHECK(got.get_if<clc::proposal>()->device_count == 4);
}

TEST_CASE("clc: the lower half of a gid is zero where the fabric is not emulated") {
  clc::accept_confirm value = accept_again_value();
  value.fabric = {0x0007};
  const bytes message = encoded(value);
  value.gid = gid_of(0x11, 0);
  CHECK(decodes_to(message, value));
  CHECK(decodes_to(with(message, 66, 0x99), value));
}

TEST_CASE("clc: a Decline for disagreeing link groups says that it is out of sync") {
  const bytes message = encoded(clc::decline{2, smcd::decline_code::sync_error});
  CHECK(message[7] == std::byte{0x28});
  CHECK(decodes_to(message, clc::decline{2, smcd::decline_code::sync_error}));
  const bytes other = encoded(clc::decline{2, static_cast<smcd::decline_code>(0x12345678)});
  CHECK(other[7] == std::byte{0x20});
  CHECK(decodes_to(other, clc::decline{2, static_cast<smcd::decline_code>(0x12345678)}));
}
