// Math:    a checkpoint's blocks → codes, scales and minima → packed planes (layout in planes.h); and back to floats.
// Shapes:  rows of [columns]
// Launch:  one row at a time, by the threads that pack or embed (embedding.c)
// Bound:   packing runs once; embedding reads a few rows in a step.
// Checked: FormatTests (every format bit for bit against the reference decoder), LinearTests
// Source:  GGUF block formats (ggml-common.h); OCP Microscaling Formats v1.0

#include "planes.h"

/// The columns that share a scale, as numbers.
typedef struct {
    /// As stored, f16, bf16 or f32; and an f16 minimum.
    uint32_t scale;
    uint16_t minimum;
    /// Of 32 or 16 columns.
    uint8_t scales[16];
    uint8_t minima[16];
    uint8_t zeros[8];
    uint8_t codes[256];
} plane_block;

static inline uint16_t load_u16(const uint8_t *source) {
    uint16_t value;
    memcpy(&value, source, sizeof value);
    return value;
}

static inline uint32_t load_u32(const uint8_t *source) {
    uint32_t value;
    memcpy(&value, source, sizeof value);
    return value;
}

static inline float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline float half_to_float(uint16_t half) {
    uint32_t bits;
    float value = float_of((uint32_t)(half & 0x7FFF) << 13) * 0x1p112f;
    memcpy(&bits, &value, sizeof bits);
    if ((half & 0x7C00) == 0x7C00) bits |= 0x7F800000;
    return float_of(bits | (uint32_t)(half & 0x8000) << 16);
}

// MARK: A checkpoint's blocks

/// The values that IQ4's codes stand for, plus 128.
static const uint8_t iq4_values[16] = { 1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241 };
/// Twice the values of a 4-bit float (one sign, two exponent bits, one of mantissa), plus 12.
static const uint8_t fp4_values[16] = { 12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0 };

/// 32 nibbles: the low halves of 16 bytes, then the high halves.
static inline void unpack_nibbles(const uint8_t *bytes, uint8_t *codes) {
    for (int i = 0; i < 16; i++) {
        codes[i] = bytes[i] & 15;
        codes[16 + i] = bytes[i] >> 4;
    }
}

static void unpack_q5(const uint8_t *bytes, plane_block *block) {
    unpack_nibbles(bytes + 4, block->codes);
    uint32_t fifth = load_u32(bytes);
    for (int i = 0; i < 32; i++) block->codes[i] |= (uint8_t)((fifth >> i & 1) << 4);
}

/// The 6-bit scales and minima of eight blocks in 12 bytes.
static void unpack_k_scales(const uint8_t *bytes, plane_block *block) {
    for (int i = 0; i < 4; i++) {
        block->scales[i] = bytes[i] & 63;
        block->minima[i] = bytes[4 + i] & 63;
        block->scales[4 + i] = (uint8_t)((bytes[8 + i] & 15) | (bytes[i] >> 6) << 4);
        block->minima[4 + i] = (uint8_t)(bytes[8 + i] >> 4 | (bytes[4 + i] >> 6) << 4);
    }
}

/// 256 nibbles: 32 low halves, then the high halves of the same 32 bytes.
static void unpack_k_nibbles(const uint8_t *bytes, uint8_t *codes) {
    for (int i = 0; i < 256; i++) {
        codes[i] = (uint8_t)(bytes[i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 15);
    }
}

/// 256 codes of 2 bits: four times the same 32 bytes, then four times the next 32.
static void unpack_k_pairs(const uint8_t *bytes, uint8_t *codes) {
    for (int i = 0; i < 256; i++) codes[i] = (uint8_t)(bytes[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3);
}

static void unpack_q3_k(const uint8_t *bytes, plane_block *block) {
    const uint8_t *scales = bytes + 96;
    block->scale = load_u16(bytes + 108);
    for (int i = 0; i < 16; i++) {
        int low = scales[i % 8] >> (i / 8 * 4) & 15, high = scales[8 + i % 4] >> (i / 4 * 2) & 3;
        block->scales[i] = (uint8_t)((low | high << 4) - 32);
    }
    unpack_k_pairs(bytes + 32, block->codes);
    // A set bit means that nothing is subtracted; 32 is the offset of the format this is packed as.
    for (int i = 0; i < 256; i++) block->codes[i] += (bytes[i % 32] >> (i / 32) & 1) ? 32 : 28;
}

static void unpack_q6_k(const uint8_t *bytes, plane_block *block) {
    block->scale = load_u16(bytes + 208);
    memcpy(block->scales, bytes + 192, 16);
    for (int i = 0; i < 256; i++) {
        int low = bytes[i / 128 * 64 + i % 64] >> (i / 64 % 2 * 4) & 15;
        int high = bytes[128 + i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;
        block->codes[i] = (uint8_t)(low | high << 4);
    }
}

static void unpack_iq4_xs(const uint8_t *bytes, plane_block *block) {
    block->scale = load_u16(bytes);
    uint32_t high = load_u16(bytes + 2);
    for (int i = 0; i < 8; i++) {
        int low = bytes[4 + i / 2] >> (i % 2 * 4) & 15;
        block->scales[i] = (uint8_t)((low | (int)(high >> 2 * i & 3) << 4) - 32);
        unpack_nibbles(bytes + 8 + 16 * i, block->codes + 32 * i);
    }
    for (int i = 0; i < 256; i++) block->codes[i] = iq4_values[block->codes[i]];
}

static void unpack(const uint8_t *bytes, int32_t stored, plane_block *block) {
    block->scale = load_u16(bytes);
    switch (stored) {
    case CPU_WEIGHT_Q5_0: unpack_q5(bytes + 2, block); break;
    case CPU_WEIGHT_Q5_1:
        block->minimum = load_u16(bytes + 2);
        unpack_q5(bytes + 4, block);
        break;
    case CPU_WEIGHT_Q2_K:
        block->scale = load_u16(bytes + 80);
        block->minimum = load_u16(bytes + 82);
        for (int i = 0; i < 16; i++) {
            block->scales[i] = bytes[i] & 15;
            block->minima[i] = bytes[i] >> 4;
        }
        unpack_k_pairs(bytes + 16, block->codes);
        break;
    case CPU_WEIGHT_Q3_K: unpack_q3_k(bytes, block); break;
    case CPU_WEIGHT_Q4_K:
        block->minimum = load_u16(bytes + 2);
        unpack_k_scales(bytes + 4, block);
        unpack_k_nibbles(bytes + 16, block->codes);
        break;
    case CPU_WEIGHT_Q5_K:
        block->minimum = load_u16(bytes + 2);
        unpack_k_scales(bytes + 4, block);
        unpack_k_nibbles(bytes + 48, block->codes);
        for (int i = 0; i < 256; i++) {
            block->codes[i] |= (uint8_t)((bytes[16 + i % 32] >> (i / 32) & 1) << 4);
        }
        break;
    case CPU_WEIGHT_Q6_K: unpack_q6_k(bytes, block); break;
    case CPU_WEIGHT_IQ4_NL:
        unpack_nibbles(bytes + 2, block->codes);
        for (int i = 0; i < 32; i++) block->codes[i] = iq4_values[block->codes[i]];
        break;
    case CPU_WEIGHT_IQ4_XS: unpack_iq4_xs(bytes, block); break;
    case CPU_WEIGHT_MXFP4:
        // 2^(e − 128) as bf16, subnormal for the two smallest exponents.
        block->scale = bytes[0] < 2 ? 0x20u << bytes[0] : (uint32_t)(bytes[0] - 1) << 7;
        unpack_nibbles(bytes + 1, block->codes);
        for (int i = 0; i < 32; i++) block->codes[i] = fp4_values[block->codes[i]];
        break;
    case CPU_WEIGHT_INT4:
        block->scale = load_u32(bytes);
        block->zeros[0] = bytes[4];
        unpack_nibbles(bytes + 5, block->codes);
        break;
    default:
        block->scale = load_u32(bytes);
        block->zeros[0] = bytes[4];
        memcpy(block->codes, bytes + 5, 32);
    }
}

/// The format whose planes hold what `stored` holds.
static int32_t plane_format(int32_t stored) {
    // Q8_0 has a layout of its own; here it only lends its offset and scale.
    return stored == CPU_WEIGHT_Q3_K ? CPU_WEIGHT_Q6_K : stored;
}

static plane_layout layout_of_stored(int32_t stored) {
    if (stored == CPU_WEIGHT_IQ4_NL) return (plane_layout){ 8, 128, 1, 1, false, false, false, SCALE_F16 };
    return plane_layout_of(plane_format(stored));
}

bool is_stored_in_planes(int32_t format) {
    return has_planes(format) || format == CPU_WEIGHT_Q3_K || format == CPU_WEIGHT_IQ4_NL;
}

int64_t stored_row_bytes(int32_t format, int64_t columns) {
    switch (format) {
    case CPU_WEIGHT_Q5_0: return columns / 32 * 22;
    case CPU_WEIGHT_Q5_1: return columns / 32 * 24;
    case CPU_WEIGHT_Q2_K: return columns / 256 * 84;
    case CPU_WEIGHT_Q3_K: return columns / 256 * 110;
    case CPU_WEIGHT_Q4_K: return columns / 256 * 144;
    case CPU_WEIGHT_Q5_K: return columns / 256 * 176;
    case CPU_WEIGHT_Q6_K: return columns / 256 * 210;
    case CPU_WEIGHT_IQ4_NL: return columns / 32 * 18;
    case CPU_WEIGHT_IQ4_XS: return columns / 256 * 136;
    case CPU_WEIGHT_MXFP4: return columns / 32 * 17;
    case CPU_WEIGHT_INT4: return columns / 32 * 21;
    default: return columns / 32 * 37;
    }
}

// MARK: Values

static inline float shared_scale(uint32_t bits, scale_type type) {
    return type == SCALE_F16 ? half_to_float((uint16_t)bits) : float_of(type == SCALE_BF16 ? bits << 16 : bits);
}

/// Elements of the part that starts at column `column`. Products of scales and codes are exact; where there is a
/// minimum, the sum rounds once.
static void decode_part(
    const plane_block *block, plane_layout layout, int column, int count, float *output, int64_t stride) {
    int part = column / count;
    float scale = shared_scale(block->scale, layout.scale), minimum = half_to_float(block->minimum);
    if (layout.blocks > 1) {
        scale *= layout.has_signed_scales ? (float)(int8_t)block->scales[part] : (float)block->scales[part];
        minimum = -(minimum * (float)block->minima[part]);
    }
    int offset = layout.has_zero ? block->zeros[column / 32] : layout.offset;
    for (int i = 0; i < count; i++) {
        float value = scale * (float)(block->codes[column + i] - offset);
        output[i * stride] = layout.has_minimum ? value + minimum : value;
    }
}

static void decode_block(const plane_block *block, plane_layout layout, float *output, int64_t stride) {
    int count = 32 / layout.parts;
    for (int column = 0; column < 32 * layout.blocks; column += count) {
        decode_part(block, layout, column, count, output + column * stride, stride);
    }
}

void decode_stored(const uint8_t *row, int32_t stored, int64_t columns, float *output, int64_t stride) {
    plane_layout layout = layout_of_stored(stored);
    int64_t width = 32 * layout.blocks, bytes = stored_row_bytes(stored, width);
    for (int64_t k = 0; k < columns; k += width, row += bytes) {
        plane_block block = { 0 };
        unpack(row, stored, &block);
        decode_block(&block, layout, output + k * stride, stride);
    }
}

// MARK: Planes

static inline void store_word(uint8_t *target, int64_t group, int64_t lane, int64_t index, uint32_t word) {
    memcpy(target + (index * group + lane) * 4, &word, sizeof word);
}

static inline uint32_t fetch_word(const uint8_t *base, int64_t group, int64_t lane, int64_t index) {
    return load_u32(base + (index * group + lane) * 4);
}

/// The codes of 32 columns. `target` is where those of the row group start.
static void pack_codes(const uint8_t *codes, int bits, uint8_t *target, int64_t group, int64_t lane) {
    if (bits == 8) {
        for (int i = 0; i < 8; i++) store_word(target, group, lane, i, load_u32(codes + 4 * i));
        return;
    }
    uint32_t fifth = 0, sixth[2] = { 0 };
    for (int i = 0; i < 4; i++) {
        uint32_t low = load_u32(codes + 4 * i), high = load_u32(codes + 16 + 4 * i);
        store_word(target, group, lane, i, (low & 0x0F0F0F0F) | (high & 0x0F0F0F0F) << 4);
        fifth |= (low >> 4 & 0x01010101) << i | (high >> 4 & 0x01010101) << (4 + i);
        sixth[0] |= (low >> 4 & 0x03030303) << 2 * i;
        sixth[1] |= (high >> 4 & 0x03030303) << 2 * i;
    }
    if (bits == 5) store_word(target, group, lane, 4, fifth);
    if (bits == 6) for (int i = 0; i < 2; i++) store_word(target, group, lane, 4 + i, sixth[i]);
}

static void fetch_codes(const uint8_t *base, int bits, int64_t group, int64_t lane, uint8_t *codes) {
    for (int i = 0; i < 8; i++) {
        uint32_t word = fetch_word(base, group, lane, bits == 8 ? i : i % 4);
        if (bits < 8) word = word >> (i / 4 * 4) & 0x0F0F0F0F;
        if (bits == 5) word |= (fetch_word(base, group, lane, 4) >> i & 0x01010101) << 4;
        if (bits == 6) word |= (fetch_word(base, group, lane, 4 + i / 4) >> i % 4 * 2 & 0x03030303) << 4;
        memcpy(codes + 4 * i, &word, sizeof word);
    }
}

static inline uint8_t *lane_bytes(uint8_t *base, int64_t group, int64_t lane, int bytes_before, int bytes) {
    return base + bytes_before * group + lane * bytes;
}

/// The one-byte numbers of a row's block of 32, in their order; returns how many there are.
static int scale_slots(plane_block *block, plane_layout layout, int index, uint8_t *slots[4]) {
    int count = 0;
    for (int part = 0; layout.blocks > 1 && part < layout.parts; part++) {
        slots[count++] = &block->scales[index * layout.parts + part];
    }
    for (int part = 0; layout.blocks > 1 && layout.has_minimum && part < layout.parts; part++) {
        slots[count++] = &block->minima[index * layout.parts + part];
    }
    if (layout.has_zero) slots[count++] = &block->zeros[index];
    return count;
}

static void pack_shared(plane_block *block, plane_layout layout, uint8_t *target, int64_t group, int64_t lane) {
    int scale_bytes = layout.scale == SCALE_F32 ? 4 : 2;
    memcpy(lane_bytes(target, group, lane, 0, scale_bytes), &block->scale, (size_t)scale_bytes);
    if (layout.has_minimum) memcpy(lane_bytes(target, group, lane, scale_bytes, 2), &block->minimum, 2);
    target += plane_header_bytes(layout) * group;
    for (int i = 0; i < layout.blocks; i++, target += plane_block_bytes(layout) * group) {
        uint8_t *slots[4];
        int count = scale_slots(block, layout, i, slots);
        for (int s = 0; s < count; s++) *lane_bytes(target, group, lane, s, 1) = *slots[s];
        pack_codes(block->codes + 32 * i, layout.bits, target + count * group, group, lane);
    }
}

/// IQ4_NL as Q8_0, in linear.c's layout.
static void pack_as_q8_0(const plane_block *block, uint8_t *target, int64_t group, int64_t lane) {
    memcpy(lane_bytes(target, group, lane, 0, 2), &block->scale, 2);
    pack_codes(block->codes, 8, target + 2 * group, group, lane);
}

void pack_planes(
    const uint8_t *row, int32_t stored, int32_t packed, int64_t columns, uint8_t *target, int64_t group, int64_t lane) {
    plane_layout layout = layout_of_stored(stored);
    int64_t width = 32 * layout.blocks, bytes = stored_row_bytes(stored, width);
    int64_t packed_bytes = packed == CPU_WEIGHT_Q8_0 ? 34 : plane_row_bytes(packed, width);
    for (int64_t k = 0; k < columns; k += width, row += bytes, target += packed_bytes * group) {
        plane_block block = { 0 };
        unpack(row, stored, &block);
        if (packed == CPU_WEIGHT_Q8_0) pack_as_q8_0(&block, target, group, lane);
        else pack_shared(&block, layout, target, group, lane);
    }
}

void decode_planes(
    const uint8_t *base, int32_t packed, int64_t columns, int64_t group, int64_t lane, float *output) {
    plane_layout layout = plane_layout_of(packed);
    int scale_bytes = layout.scale == SCALE_F32 ? 4 : 2;
    for (int64_t k = 0; k < columns; k += 32 * layout.blocks) {
        plane_block block = { 0 };
        memcpy(&block.scale, base + lane * scale_bytes, (size_t)scale_bytes);
        if (layout.has_minimum) block.minimum = load_u16(base + scale_bytes * group + 2 * lane);
        base += plane_header_bytes(layout) * group;
        for (int i = 0; i < layout.blocks; i++, base += plane_block_bytes(layout) * group) {
            uint8_t *slots[4];
            int count = scale_slots(&block, layout, i, slots);
            for (int s = 0; s < count; s++) *slots[s] = base[s * group + lane];
            fetch_codes(base + count * group, layout.bits, group, lane, block.codes + 32 * i);
        }
        decode_block(&block, layout, output + k, 1);
    }
}
