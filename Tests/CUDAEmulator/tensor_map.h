// What the emulated driver makes of the description of a matrix, and the emulated copy engine reads.

#pragma once

#include <stdint.h>

namespace emulator {

constexpr uint64_t tensor_map_mark = 0x7A51'0F2D'90C3'B6E8;

/// A matrix of 16-bit elements. Index 0 is along a row.
struct tensor_map {
    uint64_t mark, address;
    uint64_t size[2];
    /// Bytes from a row to the next.
    uint64_t stride;
    uint32_t box[2];
    /// 0 for none, 3 for 128 bytes.
    uint32_t swizzle;
};
static_assert(sizeof(tensor_map) <= 128, "the driver's has 128 bytes");

}  // namespace emulator
