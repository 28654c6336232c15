// Takes the blocks of quantized checkpoints apart. Tensors.Dequantization says what each is worth; the tests compare.

#include "stored_blocks.h"

#include <string.h>

int32_t cuda_source_block_columns(int32_t source) {
    switch (source) {
    case CUDA_SOURCE_BF16:
    case CUDA_SOURCE_F16:
    case CUDA_SOURCE_F32: return 1;
    case CUDA_SOURCE_Q2_K:
    case CUDA_SOURCE_Q3_K:
    case CUDA_SOURCE_Q4_K:
    case CUDA_SOURCE_Q5_K:
    case CUDA_SOURCE_Q6_K:
    case CUDA_SOURCE_IQ4_XS: return 256;
    default: return 32;
    }
}

int source_block_bytes(int source) {
    static const int bytes[] = {2, 2, 4, 34, 18, 20, 22, 24, 84, 110, 144, 176, 210, 18, 136, 17, 21, 37, 36};
    return bytes[source];
}

// MARK: Numbers

float half_value(uint16_t bits) {
    _Float16 half;
    memcpy(&half, &bits, 2);
    return (float)half;
}

uint16_t half_of(float value) {
    const _Float16 half = (_Float16)value;
    uint16_t bits;
    memcpy(&bits, &half, 2);
    return bits;
}

uint16_t bf16_of(int value) {
    const float number = (float)value;
    uint32_t bits;
    memcpy(&bits, &number, 4);
    return (uint16_t)(bits >> 16);
}

// MARK: Parts

/// Element `index` of 32 nibbles: the low halves of 16 bytes, then the high halves.
static uint8_t nibble(const uint8_t *bytes, int index) { return bytes[index % 16] >> index / 16 * 4 & 15; }

static uint8_t bit(const uint8_t *bytes, int index) { return bytes[index / 8] >> index % 8 & 1; }

/// Codes of 4 bits with a scale, and perhaps a minimum, before them.
static void read_nibbles(const uint8_t *bytes, int halves, stored_block *block) {
    memcpy(block->halves, bytes, (size_t)(2 * halves));
    for (int i = 0; i < 32; i++) block->codes[i] = nibble(bytes + 2 * halves, i);
}

/// What the codes of iq4_nl and iq4_xs stand for.
static const int8_t iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

/// `part` of the eight of a block of 256.
static void read_k_block(int source, const uint8_t *bytes, int part, stored_block *block) {
    const bool is_five = source == CUDA_SOURCE_Q5_K;
    const uint8_t *const packed = bytes + 4, *const nibbles = bytes + (is_five ? 48 : 16) + part / 2 * 32;
    const uint8_t a = packed[part % 4], b = packed[4 + part % 4], c = packed[8 + part % 4];
    memcpy(block->halves, bytes, 4);
    block->small[0] = part < 4 ? a & 63 : (uint8_t)((c & 15) | a >> 6 << 4);
    block->small[1] = part < 4 ? b & 63 : (uint8_t)(c >> 4 | b >> 6 << 4);
    for (int i = 0; i < 32; i++) {
        block->codes[i] = nibbles[i] >> part % 2 * 4 & 15;
        if (is_five) block->codes[i] |= (uint8_t)((bytes[16 + i] >> part & 1) << 4);
    }
}

static void read_q6_k(const uint8_t *bytes, int part, stored_block *block) {
    memcpy(block->halves, bytes + 208, 2);
    for (int i = 0; i < 2; i++) block->small[i] = bytes[192 + 2 * part + i] ^ 0x80;
    for (int i = 0; i < 32; i++) {
        const int index = 32 * part + i;
        const int low = bytes[index / 128 * 64 + index % 64] >> index / 64 % 2 * 4 & 15;
        const int high = bytes[128 + index / 128 * 32 + i] >> part % 4 * 2 & 3;
        block->codes[i] = (uint8_t)(low | high << 4);
    }
}

/// As q6_k, whose codes and scales have room for it.
static void read_q3_k(const uint8_t *bytes, int part, stored_block *block) {
    memcpy(block->halves, bytes + 108, 2);
    for (int i = 0; i < 2; i++) {
        const int sixteen = 2 * part + i;
        const int low = bytes[96 + sixteen % 8] >> sixteen / 8 * 4 & 15;
        const int high = bytes[104 + sixteen % 4] >> sixteen / 4 * 2 & 3;
        block->small[i] = (uint8_t)((low | high << 4) - 32 + 128);
    }
    for (int i = 0; i < 32; i++) {
        const int low = bytes[32 + part / 4 * 32 + i] >> part % 4 * 2 & 3, high = bytes[i] >> part & 1;
        block->codes[i] = (uint8_t)(low - (1 - high) * 4 + 32);
    }
}

static void read_iq4_xs(const uint8_t *bytes, int part, stored_block *block) {
    uint16_t half, high;
    memcpy(&half, bytes, 2);
    memcpy(&high, bytes + 2, 2);
    const int scale = (bytes[4 + part / 2] >> part % 2 * 4 & 15) | (high >> 2 * part & 3) << 4;
    block->scale = half_value(half) * (float)(scale - 32);
    block->zero = 128;
    for (int i = 0; i < 32; i++) block->codes[i] = (uint8_t)iq4_values[nibble(bytes + 8 + 16 * part, i)];
}

/// An f32 scale, a zero, and codes.
static void read_integers(const cuda_packing *packing, const uint8_t *bytes, stored_block *block) {
    memcpy(&block->scale, bytes, 4);
    block->halves[0] = half_of(block->scale);
    block->zero = bytes[4];
    for (int i = 0; i < 32; i++) {
        block->codes[i] = packing->source == CUDA_SOURCE_INT4 ? nibble(bytes + 5, i) : bytes[5 + i];
        if (packing->format == CUDA_WEIGHT_INT8) block->codes[i] ^= 0x80;
    }
}

void read_block(const cuda_packing *packing, const uint8_t *row, int64_t index, stored_block *block) {
    const int source = packing->source;
    const int64_t of_block = cuda_source_block_columns(source) / 32;
    const uint8_t *const bytes = row + index / of_block * source_block_bytes(source);
    const int part = (int)(index % of_block);
    switch (source) {
    case CUDA_SOURCE_Q8_0:
        memcpy(block->halves, bytes, 2);
        memcpy(block->codes, bytes + 2, 32);
        break;
    case CUDA_SOURCE_Q4_0: read_nibbles(bytes, 1, block); break;
    case CUDA_SOURCE_Q4_1: read_nibbles(bytes, 2, block); break;
    case CUDA_SOURCE_Q5_0:
        memcpy(block->halves, bytes, 2);
        for (int i = 0; i < 32; i++) {
            block->codes[i] = (uint8_t)((nibble(bytes + 6, i) | bit(bytes + 2, i) << 4) - 16);
        }
        break;
    case CUDA_SOURCE_Q3_K: read_q3_k(bytes, part, block); break;
    case CUDA_SOURCE_Q4_K:
    case CUDA_SOURCE_Q5_K: read_k_block(source, bytes, part, block); break;
    case CUDA_SOURCE_Q6_K: read_q6_k(bytes, part, block); break;
    case CUDA_SOURCE_IQ4_NL:
        memcpy(block->halves, bytes, 2);
        for (int i = 0; i < 32; i++) block->codes[i] = (uint8_t)iq4_values[nibble(bytes + 2, i)];
        break;
    case CUDA_SOURCE_IQ4_XS: read_iq4_xs(bytes, part, block); break;
    case CUDA_SOURCE_MXFP4:
        block->small[0] = bytes[0];
        for (int i = 0; i < 32; i++) block->codes[i] = nibble(bytes + 1, i);
        break;
    case CUDA_SOURCE_E4M3:
        memcpy(&block->scale, bytes, 4);
        memcpy(block->codes, bytes + 4, 32);
        break;
    default: read_integers(packing, bytes, block); break;
    }
}

void stored_floats(int source, const uint8_t *row, int64_t index, float *values) {
    uint16_t halves[2];
    if (source == CUDA_SOURCE_Q5_1) {
        const uint8_t *const bytes = row + index * 24;
        memcpy(halves, bytes, 4);
        for (int i = 0; i < 32; i++) {
            const int code = nibble(bytes + 8, i) | bit(bytes + 4, i) << 4;
            values[i] = (float)code * half_value(halves[0]) + half_value(halves[1]);
        }
        return;
    }
    const uint8_t *const bytes = row + index / 8 * 84;
    const int part = (int)(index % 8);
    memcpy(halves, bytes + 80, 4);
    for (int i = 0; i < 32; i++) {
        const int scale = bytes[2 * part + i / 16], code = bytes[16 + part / 4 * 32 + i] >> part % 4 * 2 & 3;
        values[i] = half_value(halves[0]) * (float)(scale & 15) * (float)code - half_value(halves[1]) * (float)(scale >> 4);
    }
}
