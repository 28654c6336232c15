// Math:    packing: a weight's stored rows → interleaved row groups (layout in linear.c).
//          embed: output[t] = W[token_t], read back out of the packed groups, so that the table exists once.
// Shapes:  W [rows, columns]; tokens [tokens] i32; output [tokens, columns] f32.
// Launch:  packing: threads take row groups. embed: threads take tokens; few tokens stay on the caller.
// Bound:   memory bandwidth (packing: page faults of the new memory).
// Checked: EmbeddingTests (every format bit for bit), LinearTests
// Source:  GGUF block formats Q8_0, Q4_0, Q4_1 (ggml-common.h)

#include "linear.h"

static inline float half_to_float(uint16_t half) {
    uint32_t bits = (uint32_t)(half & 0x7FFF) << 13, sign = (uint32_t)(half & 0x8000) << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    value *= 0x1p112f;
    memcpy(&bits, &value, sizeof bits);
    if ((half & 0x7C00) == 0x7C00) bits |= 0x7F800000;
    bits |= sign;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint16_t load_u16(const uint8_t *source) {
    uint16_t value;
    memcpy(&value, source, sizeof value);
    return value;
}

static inline float load_half(const uint8_t *source) {
    return half_to_float(load_u16(source));
}

static inline float load_bf16(const uint8_t *source) {
    uint32_t bits = (uint32_t)load_u16(source) << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline float load_f32(const uint8_t *source) {
    float value;
    memcpy(&value, source, sizeof value);
    return value;
}

/// An 8-bit float with 4 bits of exponent. NaN is not one of them: a block that has one has it as its scale.
static inline float e4m3_to_float(uint8_t bits) {
    return half_to_float((uint16_t)((bits & 0x7F) << 7 | (bits & 0x80) << 8)) * 256.0f;
}

static inline void store_f32(uint8_t *target, float value) {
    memcpy(target, &value, sizeof value);
}

static int group_rows(const cpu_context *context) {
    return context->isa == CPU_PORTABLE || context->isa == CPU_AVX2 ? 8 : 16;
}

int64_t cpu_row_group(const cpu_context *context) {
    return group_rows(context);
}

uint64_t cpu_segment_bytes(const cpu_context *context, int32_t format, int64_t rows, int64_t columns) {
    int64_t group = group_rows(context);
    return (uint64_t)round_up(row_pairs(rows, group) * 2 * group_bytes(format, group, columns), 64);
}

// MARK: Packing

typedef struct {
    const cpu_segment *segment;
    int64_t columns;
    const uint8_t *source;
    int32_t source_format;
    int64_t row_offset;
    int64_t row_count;
    int64_t group;
    work_counter next;
} pack_arguments;

/// Moves one block of one row: its scales and its 32-bit words, each to lane `lane` of the group's.
static inline void pack_block(
    const uint8_t *source, uint8_t *target, int64_t group, int64_t lane, int scales, int words, uint32_t flip) {
    for (int i = 0; i < scales; i++) memcpy(target + (i * group + lane) * 2, source + 2 * i, 2);
    target += scales * 2 * group;
    source += scales * 2;
    for (int i = 0; i < words; i++) {
        uint32_t word;
        memcpy(&word, source + 4 * i, 4);
        word ^= flip;
        memcpy(target + (i * group + lane) * 4, &word, 4);
    }
}

/// The 32 elements of a stored quantized block.
static inline void decode_block(const uint8_t *block, int32_t format, float *output) {
    float scale = load_half(block);
    if (format == CPU_WEIGHT_Q8_0) {
        for (int64_t j = 0; j < 32; j++) output[j] = scale * (float)(int8_t)block[2 + j];
        return;
    }
    const uint8_t *bytes = block + (format == CPU_WEIGHT_Q4_1 ? 4 : 2);
    float minimum = format == CPU_WEIGHT_Q4_1 ? load_half(block + 2) : 0.0f;
    int offset = format == CPU_WEIGHT_Q4_1 ? 0 : 8;
    for (int64_t j = 0; j < 16; j++) {
        // Q4_1: product and sum round separately, as in the reference implementations.
        output[j] = scale * (float)((bytes[j] & 15) - offset) + minimum;
        output[j + 16] = scale * (float)((bytes[j] >> 4) - offset) + minimum;
    }
}

/// Column `k` of a stored row of a float format.
static inline float stored_value(const uint8_t *row, int32_t format, int64_t k) {
    if (format == CPU_WEIGHT_F16) return load_half(row + 2 * k);
    if (format == CPU_WEIGHT_BF16) return load_bf16(row + 2 * k);
    const uint8_t *block = row + k / 32 * 36;
    if (format == CPU_WEIGHT_E4M3) return load_f32(block) * e4m3_to_float(block[4 + k % 32]);
    return load_f32(row + 4 * k);
}

/// A stored row as floats, in lane `lane` of a float row group.
static inline void pack_row_f32(
    const pack_arguments *a, const uint8_t *row, uint8_t *target, int64_t group, int64_t lane) {
    if (!weight_is_quantized(a->source_format)) {
        for (int64_t k = 0; k < a->columns; k++) {
            store_f32(target + (k * group + lane) * 4, stored_value(row, a->source_format, k));
        }
        return;
    }
    if (is_stored_in_planes(a->source_format)) {
        decode_stored(row, a->source_format, a->columns, (float *)target + lane, group);
        return;
    }
    for (int64_t b = 0; b < a->columns / 32; b++, row += group_bytes(a->source_format, 1, 32)) {
        float values[32];
        decode_block(row, a->source_format, values);
        for (int64_t j = 0; j < 32; j++) store_f32(target + ((32 * b + j) * group + lane) * 4, values[j]);
    }
}

static inline void pack_row(
    const pack_arguments *a, const uint8_t *row, uint8_t *target, int64_t group, int64_t lane) {
    int64_t blocks = a->columns / 32;
    if (is_stored_in_planes(a->source_format) && a->segment->format != CPU_WEIGHT_F32) {
        pack_planes(row, a->source_format, a->segment->format, a->columns, target, group, lane);
        return;
    }
    switch (a->segment->format) {
    case CPU_WEIGHT_Q4_0:
        for (int64_t b = 0; b < blocks; b++) pack_block(row + 18 * b, target + 18 * group * b, group, lane, 1, 4, 0);
        break;
    case CPU_WEIGHT_Q4_1:
        for (int64_t b = 0; b < blocks; b++) pack_block(row + 20 * b, target + 20 * group * b, group, lane, 2, 4, 0);
        break;
    case CPU_WEIGHT_Q8_0:
        for (int64_t b = 0; b < blocks; b++) {
            pack_block(row + 34 * b, target + 34 * group * b, group, lane, 1, 8, 0x80808080);
        }
        break;
    case CPU_WEIGHT_E4M3:
        for (int64_t b = 0; b < blocks; b++, row += 36, target += 36 * group) {
            memcpy(target + lane * 4, row, 4);
            for (int64_t k = 0; k < 32; k++) target[(4 + k) * group + lane] = row[4 + k];
        }
        break;
    case CPU_WEIGHT_F32: pack_row_f32(a, row, target, group, lane); break;
    case CPU_WEIGHT_BF16_PAIRS:
        for (int64_t k = 0; k < a->columns; k += 2) memcpy(target + (k * group + 2 * lane) * 2, row + 2 * k, 4);
        break;
    default:
        for (int64_t k = 0; k < a->columns; k++) memcpy(target + (k * group + lane) * 2, row + 2 * k, 2);
    }
}

static void pack_task(void *arguments, const team *team, int worker) {
    (void)team;
    (void)worker;
    pack_arguments *a = arguments;
    int64_t bytes = group_bytes(a->segment->format, a->group, a->columns);
    int64_t row_bytes = is_stored_in_planes(a->source_format) ? stored_row_bytes(a->source_format, a->columns)
                                                              : group_bytes(a->source_format, 1, a->columns);
    int64_t groups = round_up(a->row_count, a->group) / a->group;
    for (;;) {
        int64_t first = take_work(&a->next, 8);
        if (first >= groups) return;
        for (int64_t g = first; g < groups && g < first + 8; g++) {
            uint8_t *target = a->segment->data + (a->row_offset / a->group + g) * bytes;
            for (int64_t lane = 0; lane < a->group; lane++) {
                int64_t row = g * a->group + lane;
                if (row >= a->row_count) break;
                const uint8_t *source = a->source + row * row_bytes;
                // The row group is a constant in each branch, so that the strided stores unroll.
                if (a->group == 8) pack_row(a, source, target, 8, lane);
                else pack_row(a, source, target, 16, lane);
            }
        }
    }
}

void cpu_pack_rows(
    cpu_context *context, const cpu_segment *segment, int64_t columns, const void *source, int32_t source_format,
    int64_t row_offset, int64_t row_count) {
    pack_arguments arguments = {
        .segment = segment, .columns = columns, .source = source, .source_format = source_format,
        .row_offset = row_offset, .row_count = row_count, .group = group_rows(context),
    };
    run_on_available(context, pack_task, &arguments);
}

// MARK: Embedding

typedef struct {
    const int32_t *tokens;
    int64_t token_count;
    const cpu_weight *table;
    float *output;
    int64_t group;
    work_counter next;
} embed_arguments;

static void embed_row(const cpu_segment *segment, int64_t columns, int64_t group, int64_t row, float *output) {
    int64_t lane = row % group;
    const uint8_t *base = segment->data + row / group * group_bytes(segment->format, group, columns);
    if (has_planes(segment->format)) {
        decode_planes(base, segment->format, columns, group, lane, output);
        return;
    }
    switch (segment->format) {
    case CPU_WEIGHT_Q8_0:
        for (int64_t b = 0; b < columns / 32; b++, base += 34 * group, output += 32) {
            float scale = load_half(base + 2 * lane);
            const uint8_t *bytes = base + 2 * group + 4 * lane;
            for (int64_t k = 0; k < 32; k++) output[k] = scale * (float)(bytes[k / 4 * 4 * group + k % 4] - 128);
        }
        break;
    case CPU_WEIGHT_Q4_0:
        for (int64_t b = 0; b < columns / 32; b++, base += 18 * group, output += 32) {
            float scale = load_half(base + 2 * lane);
            const uint8_t *bytes = base + 2 * group + 4 * lane;
            for (int64_t k = 0; k < 16; k++) {
                int both = bytes[k / 4 * 4 * group + k % 4];
                output[k] = scale * (float)((both & 15) - 8);
                output[k + 16] = scale * (float)((both >> 4) - 8);
            }
        }
        break;
    case CPU_WEIGHT_Q4_1:
        for (int64_t b = 0; b < columns / 32; b++, base += 20 * group, output += 32) {
            float scale = load_half(base + 2 * lane), minimum = load_half(base + 2 * (group + lane));
            const uint8_t *bytes = base + 4 * group + 4 * lane;
            for (int64_t k = 0; k < 16; k++) {
                int both = bytes[k / 4 * 4 * group + k % 4];
                float low = scale * (float)(both & 15), high = scale * (float)(both >> 4);
                output[k] = low + minimum;
                output[k + 16] = high + minimum;
            }
        }
        break;
    case CPU_WEIGHT_E4M3:
        for (int64_t k = 0; k < columns; k++) {
            const uint8_t *block = base + k / 32 * 36 * group;
            output[k] = load_f32(block + 4 * lane) * e4m3_to_float(block[(4 + k % 32) * group + lane]);
        }
        break;
    case CPU_WEIGHT_F16:
        for (int64_t k = 0; k < columns; k++) output[k] = load_half(base + (k * group + lane) * 2);
        break;
    case CPU_WEIGHT_BF16:
        for (int64_t k = 0; k < columns; k++) output[k] = load_bf16(base + (k * group + lane) * 2);
        break;
    case CPU_WEIGHT_BF16_PAIRS:
        for (int64_t k = 0; k < columns; k++) {
            output[k] = load_bf16(base + (k / 2 * 2 * group + 2 * lane + k % 2) * 2);
        }
        break;
    default:
        for (int64_t k = 0; k < columns; k++) memcpy(output + k, base + (k * group + lane) * 4, 4);
    }
}

static void embed_token(const embed_arguments *a, int64_t row, float *output) {
    for (int64_t i = 0; i < a->table->segment_count; i++) {
        const cpu_segment *segment = &a->table->segments[i];
        if (row < segment->first_row || row >= segment->first_row + segment->rows) continue;
        embed_row(segment, a->table->columns, a->group, row - segment->first_row, output);
        return;
    }
    // Another rank has it; or there is no such token, and NaN travels to the logits, where sampling reports it.
    float nothing = a->table->first_token >= 0 ? 0 : __builtin_nanf("");
    for (int64_t k = 0; k < a->table->columns; k++) output[k] = nothing;
}

static void embed_task(void *arguments, const team *team, int worker) {
    (void)worker;
    embed_arguments *a = arguments;
    int64_t begin, end, at_a_time = rows_at_a_time(a->token_count, team);
    while (take_rows(&a->next, a->token_count, at_a_time, &begin, &end)) {
        for (int64_t t = begin; t < end; t++) {
            int64_t row = a->tokens[t] - (a->table->first_token >= 0 ? a->table->first_token : 0);
            embed_token(a, row, a->output + t * a->table->columns);
        }
    }
}

void cpu_embed(
    cpu_context *context, const int32_t *tokens, int64_t token_count, const cpu_weight *table, float *output) {
    operation whole = { OPERATION_EMBED, token_count, .embed = { tokens, *table, output } };
    if (record(context, whole)) return;
    embed_arguments arguments = {
        .tokens = tokens, .token_count = token_count, .table = table, .output = output, .group = group_rows(context),
    };
    if (token_count < 32) run_alone(context, embed_task, &arguments);
    else run_on_available(context, embed_task, &arguments);
}

// MARK: Gathering rows

void cpu_gather_rows(
    cpu_context *context, const float *x, int64_t width, const int32_t *rows, int64_t row_count, float *output) {
    run_recorded(context);
    for (int64_t i = 0; i < row_count; i++) {
        memcpy(output + i * width, x + rows[i] * width, (size_t)width * sizeof(float));
    }
}
