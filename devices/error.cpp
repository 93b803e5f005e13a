// SPDX-License-Identifier: Apache-2.0
#include <devices/error.hpp>

namespace dibs {
namespace {

class category final : public boost::system::error_category {
 public:
  [[nodiscard]] const char* name() const noexcept override { return "dibs"; }

  [[nodiscard]] std::string message(int code) const override { return text(code); }
  char const* message(int code, char* buffer, std::size_t size) const noexcept override {
    static_cast<void>(buffer);
    static_cast<void>(size);
    return text(code);
  }

 private:
  static const char* text(int code) noexcept {
    switch (static_cast<errc>(code)) {
      case errc::fabric_unusable: return "the fabric cannot be used";
      case errc::fabric_full: return "no space left on the fabric";
      case errc::no_dmb_left: return "the device has no DMB left";
      case errc::unknown_gid: return "no device of that gid on the fabric";
      case errc::unknown_token: return "no DMB of that token for this device";
      case errc::bad_size: return "not the size of a DMB";
    }
    return "unknown dibs error";
  }
};

}  // namespace

const boost::system::error_category& dibs_category() noexcept {
  static const category instance;
  return instance;
}

error_code make_error_code(errc code) noexcept { return {static_cast<int>(code), dibs_category()}; }

}  // namespace dibs
