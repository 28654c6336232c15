// What becomes of a product's sums while a thread still has them (`cuda_ending`): a pair of rows is in one thread, so that
// a gate meets its value and a rotated element its partner; and the last block to end may normalize the rows. Each does
// what a kernel of its own would, in the same operations and with the same roundings: no bit differs.

#ifndef APUS_ENDINGS_CUH
#define APUS_ENDINGS_CUH

#include "gates.cuh"
#include "matrix_layout.h"
#include "norm.cuh"
#include "pages.cuh"

// MARK: Pairs

/// The rows of the result whose sums one thread has for each of its tokens.
struct row_pair {
    int first, second;
};

/// Those of packed rows `packed` and `packed + 8`, the first eight of sixteen and the last.
APUS_DEVICE row_pair rows_of(const cuda_matrix &matrix, int packed) {
    const int row = paired_row(matrix.pairs, packed);
    return {row, row + (matrix.pairs == 0 ? 8 : matrix.pairs)};
}

// MARK: Pairs of sums

APUS_DEVICE void end_plain(float *output, int row, float sum, bool adds, const float *bias) {
    float value = adds ? output[row] + sum : sum;
    if (bias != nullptr) value = value + bias[row];
    output[row] = value;
}

/// Rounded to bf16 as an element of a key or of a value, at the slot's place.
APUS_DEVICE void end_cached(const cuda_ending &e, int slot, int row, float value) {
    const bool is_value = row >= e.value_row;
    const int local = row - (is_value ? e.value_row : e.key_row);
    const int head = local / e.cache.head_dim, dimension = local % e.cache.head_dim;
    const int block = slot / e.cache.block_size, offset = slot % e.cache.block_size;
    const int group = cuda_kv_group(block, offset, head, e.cache.kv_heads, e.cache.block_size);
    const int place = offset % CUDA_GROUP_TOKENS;
    const int64_t base = static_cast<int64_t>(group) * CUDA_GROUP_TOKENS * e.cache.head_dim;
    const int element = cuda_kv_element(e.cache.type, is_value, place, dimension);
    at<uint16_t>(is_value ? e.cache.values : e.cache.keys, base)[element] = float_to_bf16(value);
}

/// Two rows of heads: turned if they are queries or keys, cached if they are keys or values.
APUS_DEVICE void end_heads(
    const cuda_ending &e, const cuda_matrix &matrix, float *output, row_pair rows, int token, float first, float second) {
    const float *const bias = at<const float>(e.bias);
    if (bias != nullptr) first = first + bias[rows.first], second = second + bias[rows.second];
    if (rows.first < e.rotated_rows) {
        const int inside = rows.first % e.cache.head_dim, pairs = e.cache.head_dim / 2;
        const float2 turn =
            at<const float2>(e.rotation, static_cast<int64_t>(token) * pairs)[matrix.pairs == 1 ? inside / 2 : inside];
        const float x = first, y = second;
        first = x * turn.x - y * turn.y;
        second = y * turn.x + x * turn.y;
    }
    output[rows.first] = first;
    output[rows.second] = second;
    if (e.slots == 0 || rows.second < e.key_row) return;
    const int slot = at<const int32_t>(e.slots)[token];
    if (slot < 0) return;
    end_cached(e, slot, rows.first, first);
    end_cached(e, slot, rows.second, second);
}

/// The sums of two rows for one token.
template <bool has_heads>
APUS_DEVICE void end_pair(
    const cuda_ending &e, const cuda_matrix &matrix, cuda_address output, int stride, bool adds, row_pair rows,
    bool has_second, int token, float first, float second) {
    if (e.kind == CUDA_ENDING_GATE) {
        at<uint16_t>(output, static_cast<int64_t>(token) * stride)[rows.first] =
            float_to_bf16(gated(first, second, e.gate, e.limit));
        return;
    }
    float *const row = at<float>(output, static_cast<int64_t>(token) * stride);
    if (has_heads && e.kind == CUDA_ENDING_HEADS) return end_heads(e, matrix, row, rows, token, first, second);
    end_plain(row, rows.first, first, adds, at<const float>(e.bias));
    if (has_second) end_plain(row, rows.second, second, adds, at<const float>(e.bias));
}

// MARK: Norm

/// Columns of a row that other blocks have written, past the first-level cache.
APUS_DEVICE float4 load_coherent_four(const float *row, int column) {
    const uint4 bits = load_coherent_16(row + column);
    return make_float4(
        __uint_as_float(bits.x), __uint_as_float(bits.y), __uint_as_float(bits.z), __uint_as_float(bits.w));
}

/// Shared memory of a block that may be the last.
struct norm_memory {
    float sums[CUDA_ENDING_NORM_TOKENS][ROW_WARPS];
    uint32_t largest[CUDA_ENDING_NORM_TOKENS][ROW_WARPS];
    uint32_t is_last;
};

/// What rms_norm makes of `tokens` rows, by the first `warps` warps of the block that was the last to end. Each warp
/// takes the part of some of the 256 threads that would do it there. `wait` is their barrier.
template <int warps, class Wait>
APUS_DEVICE void normalize_rows(
    const cuda_ending &e, cuda_address x, int columns, int tokens, norm_memory &memory, const Wait &wait) {
    const bool is_narrow = columns <= NARROW_COLUMNS;
    const int parts = is_narrow ? 1 : ROW_WARPS;
    for (int part = warp_index(); part < tokens * parts; part += warps) {
        const int token = part / parts, own = part % parts;
        const float *const row = at<const float>(x, static_cast<int64_t>(token) * columns);
        float sum = 0;
        for (int column = 4 * (32 * own + lane_index()); column < columns; column += 4 * 32 * parts) {
            sum = add_squares(load_coherent_four(row, column), sum);
        }
        sum = warp_sum(sum);
        if (lane_index() == 0) memory.sums[token][own] = sum;
    }
    wait();
    for (int token = 0; token < tokens; token++) {
        float sum = memory.sums[token][0];
        if (!is_narrow) {
            sum = 0;
            for (int part = 0; part < ROW_WARPS; part++) sum += memory.sums[token][part];
        }
        const float scale = scale_of_squares(sum, columns, e.epsilon);
        const float *const row = at<const float>(x, static_cast<int64_t>(token) * columns);
        uint16_t *const normed = at<uint16_t>(e.normed, static_cast<int64_t>(token) * columns);
        uint32_t largest = 0;
        for (int column = 4 * static_cast<int>(threadIdx.x); column < columns; column += 4 * 32 * warps) {
            const float4 by = load_four(at<const float>(e.norm_weight), column, columns, true);
            const uint2 pairs = scaled_four(load_coherent_four(row, column), scale, by);
            *reinterpret_cast<uint2 *>(normed + column) = pairs;
            largest = max(largest, max(largest_of_pair(pairs.x), largest_of_pair(pairs.y)));
        }
        if (e.codes == 0) continue;
        largest = warp_largest(largest);
        if (lane_index() == 0) memory.largest[token][warp_index()] = largest;
    }
    if (e.codes == 0) return;
    wait();
    for (int token = 0; token < tokens; token++) {
        uint32_t largest = 0;
        for (int warp = 0; warp < warps; warp++) largest = max(largest, memory.largest[token][warp]);
        const byte_scale scale = scale_of_e4m3(__uint_as_float(largest));
        const int64_t first = static_cast<int64_t>(token) * columns;
        if (threadIdx.x == 0) at<float>(e.code_scales)[token] = scale.scale;
        write_codes(
            at<const uint16_t>(e.normed, first), at<uint8_t>(e.codes, first), columns, static_cast<int>(threadIdx.x),
            32 * warps, scale);
    }
}

/// Whether this block is the last of `blocks` to come here; the others' results can then be read. For all threads that
/// `wait` is the barrier of, the first of the block among them.
template <class Wait>
APUS_DEVICE bool is_last_arrival(cuda_address arrivals, int blocks, norm_memory &memory, const Wait &wait) {
    device_fence();
    wait();
    if (threadIdx.x == 0) {
        uint32_t *const count = at<uint32_t>(arrivals);
        const bool is_last = atomicAdd(count, 1u) == static_cast<uint32_t>(blocks) - 1;
        memory.is_last = is_last;
        // Ready for the next launch.
        if (is_last) *count = 0;
        device_fence();
    }
    wait();
    return memory.is_last != 0;
}

#endif
