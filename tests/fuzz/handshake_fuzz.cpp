// SPDX-License-Identifier: Apache-2.0
// The input is a script: first the role, then what the driver and the peer do,
// in any order. Whatever that is, the machine sends whole messages, one after
// the other, keeps its promises about steps, and never leaves fallback.
#include <smcd/clc.hpp>
#include <smcd/handshake.hpp>

#include <fuzz/script.hpp>

#include <algorithm>
#include <vector>

using fuzz::expect;
using smcd::handshake;
using smcd::handshake_step;

namespace {

smcd::identity self() {
  smcd::identity made{};
  made.gid.bytes.fill(0x33);
  made.fabric = dibs::loopback_fabric;
  made.ueids = {smcd::padded_eid("OTHER"), smcd::padded_eid("MYCLUSTER-01")};
  made.ueid_count = 2;
  return made;
}

void send(handshake& end, std::size_t n, std::vector<std::byte>& sent) {
  const auto out = end.get_output().first(std::min(n, end.get_output().size()));
  sent.insert(sent.end(), out.begin(), out.end());
  end.output_sent(out.size());
}

void expect_promises(const handshake& end) {
  const handshake_step step = end.step();
  expect((step == handshake_step::send_output) == !end.get_output().empty());
  expect(end.peer_size_code() <= smcd::clc::max_size_code);
  if (step == handshake_step::offer_dmb || step == handshake_step::established) {
    expect(!end.peer_gid().is_none() && !end.negotiated_eid().is_none());
    expect(end.local_reason() == smcd::decline_code::none);
    const bool knows_token =
        step == handshake_step::established || end.role() == smcd::handshake_role::client;
    expect(end.peer_token().is_none() != knows_token);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::script todo(data, size);
  handshake end =
      todo.byte() % 2 == 0 ? handshake::client(self(), 0) : handshake::server(self(), 0);
  std::vector<std::byte> sent;
  bool gave_up = false;
  while (!todo.is_over()) {
    const handshake_step before = end.step();
    switch (todo.byte() % 6) {
      case 0: {
        const std::size_t length = std::size_t{todo.byte()} << 8;
        const auto failure = end.put_input(std::as_bytes(todo.take(length | todo.byte())));
        expect(!failure || end.step() == handshake_step::send_output ||
               end.step() == handshake_step::fallback);
        break;
      }
      case 1: send(end, todo.byte(), sent); break;
      case 2: send(end, end.get_output().size(), sent); break;
      case 3: {
        const dibs::dmb_token token{todo.byte()};
        const auto size_code = static_cast<std::uint8_t>(todo.byte() % 9);
        end.offer(token, size_code, 0x100, todo.byte() % 2 == 0);
        break;
      }
      case 4: end.decline(static_cast<smcd::decline_code>(todo.byte())); break;
      case 5:
        end.give_up(smcd::decline_code::configuration);
        gave_up = true;
        break;
    }
    expect_promises(end);
    if (before == handshake_step::fallback) expect(end.step() == handshake_step::fallback);
  }

  if (gave_up) return 0;
  send(end, end.get_output().size(), sent);
  for (std::span<const std::byte> rest = sent; !rest.empty();) {
    const auto message = smcd::clc::decode(rest);
    expect(message.is_message());
    rest = rest.subspan(message.size);
  }
  return 0;
}
