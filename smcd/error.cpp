// SPDX-License-Identifier: Apache-2.0
#include <smcd/error.hpp>

namespace smcd {
namespace {

class category final : public boost::system::error_category {
 public:
  [[nodiscard]] const char* name() const noexcept override { return "smcd"; }

  [[nodiscard]] std::string message(int code) const override { return text(code); }
  // The one for places that must not allocate.
  char const* message(int code, char*, std::size_t) const noexcept override { return text(code); }

 private:
  static const char* text(int code) noexcept {
    switch (static_cast<errc>(code)) {
      case errc::protocol_violation: return "the peer violated the SMC-D protocol";
      case errc::unexpected_message: return "a CLC message out of turn";
      case errc::bad_cursor: return "a cursor that cannot be";
      case errc::bad_eid: return "not a well formed enterprise id";
    }
    return "unknown smcd error";
  }
};

}  // namespace

const boost::system::error_category& smcd_category() noexcept {
  static const category instance;
  return instance;
}

dibs::error_code make_error_code(errc code) noexcept {
  return {static_cast<int>(code), smcd_category()};
}

const char* to_text(decline_code code) noexcept {
  switch (code) {
    case decline_code::none: return "no reason";
    case decline_code::memory: return "no memory for buffers or control data";
    case decline_code::confirm_link_timeout: return "timeout while confirming a link";
    case decline_code::add_link_timeout: return "timeout while adding a link";
    case decline_code::configuration: return "local configuration error";
    case decline_code::peer_no_smc: return "peer did not signal SMC";
    case decline_code::ipsec: return "connection uses IPsec";
    case decline_code::no_device: return "no SMC device found";
    case decline_code::no_smcd_device: return "no usable SMC-D device, or no common EID";
    case decline_code::no_smcr_device: return "no usable SMC-R device";
    case decline_code::no_ism_v2: return "no SMC-D device that supports version 2";
    case decline_code::no_v2_extension: return "peer sent no version 2 extension";
    case decline_code::no_smcd_v2_extension: return "peer sent no SMC-D version 2 extension";
    case decline_code::no_seid: return "peer sent no SEID";
    case decline_code::no_smcd_v2_device: return "no device on a common fabric";
    case decline_code::no_ueid: return "peer sent neither UEID nor SEID";
    case decline_code::release_error: return "release negotiation failed";
    case decline_code::max_connections_error: return "number of connections not negotiated";
    case decline_code::max_links_error: return "number of links not negotiated";
    case decline_code::mode_unsupported: return "peer chose a mode that was not offered";
    case decline_code::rmb_eyecatcher: return "eyecatcher of the remote buffer is wrong";
    case decline_code::option_unsupported: return "socket option not supported with SMC";
    case decline_code::different_prefix: return "peer is in another IP subnet";
    case decline_code::vlan_unknown: return "VLAN of the connection not found";
    case decline_code::ism_vlan_error: return "VLAN refused by the ISM device";
    case decline_code::no_active_link: return "no active link in the link group";
    case decline_code::no_server_link: return "link of the server not found";
    case decline_code::version_mismatch: return "SMC versions do not match";
    case decline_code::no_dmb_left: return "device has no DMB left";
    case decline_code::no_route: return "no route to the peer";
    case decline_code::no_indirect_route: return "no indirect route to the peer";
    case decline_code::sync_error: return "peers disagree about the link group";
    case decline_code::peer_declined: return "peer declined";
    case decline_code::internal_error: return "internal error";
    case decline_code::rtoken_error: return "handling of a remote token failed";
    case decline_code::ready_link_error: return "link could not be made ready";
    case decline_code::register_buffer_error: return "buffer could not be registered";
  }
  return "unknown reason";
}

}  // namespace smcd
