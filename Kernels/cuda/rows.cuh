// Reading and writing rows in groups of four columns: 16 bytes at once where the row is aligned, value by value where
// it is not or where it ends inside a group. The groups are the same either way, and so are the results.

#ifndef APUS_ROWS_CUH
#define APUS_ROWS_CUH

#include "device.cuh"

/// Columns first…first + 3 of a row, 0 past its end.
APUS_DEVICE float4 load_four(const float *row, int first, int columns, bool is_aligned) {
    if (is_aligned) {
        const uint4 bits = load_16(row + first);
        return make_float4(
            __uint_as_float(bits.x), __uint_as_float(bits.y), __uint_as_float(bits.z), __uint_as_float(bits.w));
    }
    return make_float4(
        row[first], first + 1 < columns ? row[first + 1] : 0, first + 2 < columns ? row[first + 2] : 0,
        first + 3 < columns ? row[first + 3] : 0);
}

/// Writes the columns that the row has, rounded to bf16.
APUS_DEVICE void store_four_bf16(uint16_t *row, float4 four, int first, int columns, bool is_aligned) {
    if (is_aligned) {
        *reinterpret_cast<uint2 *>(row + first) = make_uint2(pack_bf16(four.x, four.y), pack_bf16(four.z, four.w));
        return;
    }
    row[first] = float_to_bf16(four.x);
    if (first + 1 < columns) row[first + 1] = float_to_bf16(four.y);
    if (first + 2 < columns) row[first + 2] = float_to_bf16(four.z);
    if (first + 3 < columns) row[first + 3] = float_to_bf16(four.w);
}

#endif
