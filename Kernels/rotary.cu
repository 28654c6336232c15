// Math:    rotate: (x_a, x_b) ← (x_a · cos θ − x_b · sin θ, x_b · cos θ + x_a · sin θ), θ = position · frequency
//          rounded to f32, its cosine and sine right to the last place; rotary_table: these alone. store_kv: keys and
//          values rounded to bf16, or (store_kv_bytes) to 8 bits of a scale for each token and head.
// Shapes:  x [tokens, stride], the first heads × head_dim of each row in place; frequencies [rotary / 2]; the cache in
//          groups of 16 tokens, in the panels or fragments of cuda/pages.cuh.
// Launch:  rotate: a block per token and 8 heads, with a table of the token's cosines and sines in shared memory.
//          store_kv: a warp per 8 tokens and 16 dimensions, so that it fills whole sectors (of fragments where slots are
//          adjacent).
//          store_kv_bytes: a warp per 8 tokens and a head's keys or values, which it reads twice.
// Bound:   bytes of x; of keys and values.
// Checked: RowCases, AttentionCases
// Source:  Su et al., "RoFormer" (2021)

#include "cuda/bytes.cuh"
#include "cuda/device.cuh"
#include "cuda/pages.cuh"

// MARK: Rotation

enum { ROTATE_HEADS = 8, ROTATE_MAX_PAIRS = 128 };

/// Cosine and sine of an angle up to 2^31. Reduced to ±π/4 and summed in 64 bits, so that what is left to round is the
/// result: f32 could not hold the angle of a late position and its remainder too.
APUS_DEVICE void cosine_and_sine(float angle, float &cosine, float &sine) {
    const double turns = rint(static_cast<double>(angle) * 0.63661977236758134308);
    double r = fma(-turns, 1.57079632679489655800, static_cast<double>(angle));
    r = fma(-turns, 6.12323399573676603587e-17, r);
    const double square = r * r;
    double s = fma(square, 1.6059043836821613e-10, -2.5052108385441720e-08);
    s = fma(s, square, 2.7557319223985893e-06);
    s = fma(s, square, -1.9841269841269841e-04);
    s = fma(s, square, 8.3333333333333332e-03);
    s = fma(s, square, -1.6666666666666666e-01);
    s = fma(s * square, r, r);
    double c = fma(square, -1.1470745597729725e-11, 2.0876756987868099e-09);
    c = fma(c, square, -2.7557319223985888e-07);
    c = fma(c, square, 2.4801587301587302e-05);
    c = fma(c, square, -1.3888888888888889e-03);
    c = fma(c, square, 4.1666666666666664e-02);
    c = fma(c, square, -0.5);
    c = fma(c, square, 1.0);
    // Quarter turns: 0 (c, s), 1 (−s, c), 2 (−c, −s), 3 (s, −c).
    const int64_t quarter = static_cast<int64_t>(turns) & 3;
    const double x = quarter & 1 ? s : c, y = quarter & 1 ? c : s;
    cosine = static_cast<float>(quarter == 1 || quarter == 2 ? -x : x);
    sine = static_cast<float>(quarter >= 2 ? -y : y);
}

APUS_KERNEL(rotate, cuda_rotate_arguments, 256, 4) {
    __shared__ float cosines[ROTATE_MAX_PAIRS];
    __shared__ float sines[ROTATE_MAX_PAIRS];
    const int token = static_cast<int>(blockIdx.x), pairs = a.frequency_count;
    const float position = static_cast<float>(at<const int32_t>(a.positions)[token]);
    for (int i = static_cast<int>(threadIdx.x); i < pairs; i += static_cast<int>(blockDim.x)) {
        cosine_and_sine(position * at<const float>(a.frequencies)[i], cosines[i], sines[i]);
        cosines[i] *= a.magnitude;
        sines[i] *= a.magnitude;
    }
    block_sync();
    const int first_head = static_cast<int>(blockIdx.y) * ROTATE_HEADS;
    const int heads = min(a.heads - first_head, static_cast<int>(ROTATE_HEADS));
    float *const row = at<float>(a.x, static_cast<int64_t>(token) * a.x_stride);
    for (int i = static_cast<int>(threadIdx.x); i < heads * pairs; i += static_cast<int>(blockDim.x)) {
        const int head = first_head + i / pairs, pair = i % pairs;
        float *const x = row + head * a.head_dim;
        float *const low = x + (a.interleaved ? 2 * pair : pair);
        float *const high = a.interleaved ? low + 1 : low + pairs;
        const float first = *low, second = *high, cosine = cosines[pair], sine = sines[pair];
        *low = first * cosine - second * sine;
        *high = second * cosine + first * sine;
    }
}

/// The same cosines and sines, once a step, for products that end in rotated heads.
APUS_KERNEL(rotary_table, cuda_rotary_table_arguments, 128, 8) {
    const int token = static_cast<int>(blockIdx.x), pairs = a.frequency_count;
    const float position = static_cast<float>(at<const int32_t>(a.positions)[token]);
    float2 *const row = at<float2>(a.table, static_cast<int64_t>(token) * pairs);
    for (int i = static_cast<int>(threadIdx.x); i < pairs; i += static_cast<int>(blockDim.x)) {
        float cosine, sine;
        cosine_and_sine(position * at<const float>(a.frequencies)[i], cosine, sine);
        row[i] = make_float2(cosine * a.magnitude, sine * a.magnitude);
    }
}

// MARK: Cache

/// Lane 4i + q stores the dimensions 4q…4q + 3 of sixteen for the i-th of eight tokens.
APUS_KERNEL(store_kv, cuda_store_kv_arguments, 256, 4) {
    const int token = static_cast<int>(blockIdx.x) * 8 + lane_index() / 4;
    const int part = static_cast<int>(blockIdx.y) * 8 + warp_index();
    const int fragments = a.cache.head_dim / 16;
    if (token >= a.token_count || part >= a.cache.kv_heads * fragments) return;
    const int slot = at<const int32_t>(a.slots)[token];
    if (slot < 0) return;
    const int head = part / fragments, dimension = part % fragments * 16 + lane_index() % 4 * 4;
    const int block = slot / a.cache.block_size, offset = slot % a.cache.block_size;
    const int group = cuda_kv_group(block, offset, head, a.cache.kv_heads, a.cache.block_size);
    const int64_t base = static_cast<int64_t>(group) * CUDA_GROUP_TOKENS * a.cache.head_dim;
    const int row = offset % CUDA_GROUP_TOKENS;

    const float *const source = at<const float>(a.qkv, static_cast<int64_t>(token) * a.qkv_stride)
        + head * a.cache.head_dim + dimension;
    const float4 key = *reinterpret_cast<const float4 *>(source + a.key_offset);
    const float4 value = *reinterpret_cast<const float4 *>(source + a.value_offset);
    uint16_t *const keys = at<uint16_t>(a.cache.keys, base), *const values = at<uint16_t>(a.cache.values, base);
    if (a.cache.type == CUDA_KV_PANELS) {
        const int element = cuda_panel_element(row, dimension);
        *reinterpret_cast<uint2 *>(keys + element) = make_uint2(pack_bf16(key.x, key.y), pack_bf16(key.z, key.w));
        *reinterpret_cast<uint2 *>(values + element) =
            make_uint2(pack_bf16(value.x, value.y), pack_bf16(value.z, value.w));
        return;
    }
    *reinterpret_cast<uint32_t *>(keys + cuda_key_element(row, dimension)) = pack_bf16(key.x, key.y);
    *reinterpret_cast<uint32_t *>(keys + cuda_key_element(row, dimension + 2)) = pack_bf16(key.z, key.w);
    values[cuda_value_element(row, dimension)] = float_to_bf16(value.x);
    values[cuda_value_element(row, dimension + 1)] = float_to_bf16(value.y);
    values[cuda_value_element(row, dimension + 2)] = float_to_bf16(value.z);
    values[cuda_value_element(row, dimension + 3)] = float_to_bf16(value.w);
}

/// The largest of four magnitudes as bits; a NaN's are above all others.
APUS_DEVICE uint32_t largest_magnitude(float4 four) {
    const uint32_t x = __float_as_uint(four.x) & 0x7FFFFFFF, y = __float_as_uint(four.y) & 0x7FFFFFFF;
    const uint32_t z = __float_as_uint(four.z) & 0x7FFFFFFF, w = __float_as_uint(four.w) & 0x7FFFFFFF;
    return max(max(x, y), max(z, w));
}

/// The same lanes, of every fragment of a head's keys, or values. What a token becomes follows from its own numbers.
APUS_KERNEL(store_kv_bytes, cuda_store_kv_arguments, 256, 4) {
    const cuda_kv_layer &cache = a.cache;
    const int token = static_cast<int>(blockIdx.x) * 8 + lane_index() / 4;
    const int part = static_cast<int>(blockIdx.y) * 8 + warp_index(), head = part / 2;
    if (part >= 2 * cache.kv_heads) return;
    const bool is_value = part % 2 == 1, is_integer = cache.type == CUDA_KV_INT8;
    const int slot = token < a.token_count ? at<const int32_t>(a.slots)[token] : -1, first = lane_index() % 4 * 4;
    const float *const source = at<const float>(a.qkv, static_cast<int64_t>(token) * a.qkv_stride)
        + (is_value ? a.value_offset : a.key_offset) + head * cache.head_dim + first;
    uint32_t largest = 0;
    for (int d = 0; slot >= 0 && d < cache.head_dim; d += 16) {
        largest = max(largest, largest_magnitude(*reinterpret_cast<const float4 *>(source + d)));
    }
    largest = max(largest, shuffle_xor(largest, 1));
    largest = max(largest, shuffle_xor(largest, 2));
    if (slot < 0) return;

    const int block = slot / cache.block_size, offset = slot % cache.block_size, row = offset % CUDA_GROUP_TOKENS;
    const int64_t group = cuda_kv_group(block, offset, head, cache.kv_heads, cache.block_size);
    uint8_t *const target =
        at<uint8_t>(is_value ? cache.values : cache.keys, group * cuda_kv_group_bytes(cache.type, cache.head_dim));
    const float most = __uint_as_float(largest);
    const byte_scale scale = is_integer ? scale_of_integers(most) : scale_of_e4m3(most);
    if (first == 0) {
        reinterpret_cast<float *>(target + cuda_kv_element_bytes(cache.type, cache.head_dim))[row] = scale.scale;
    }
    for (int d = 0; d < cache.head_dim; d += 16) {
        const float4 four = *reinterpret_cast<const float4 *>(source + d);
        const float x[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int element = cuda_kv_element(cache.type, is_value, row, d + first + i);
            const float scaled = x[i] * scale.factor;
            target[cuda_kv_code_place(element, cache.head_dim)] =
                static_cast<uint8_t>(is_integer ? float_to_byte(scaled) : float_to_e4m3(scaled));
        }
    }
}
