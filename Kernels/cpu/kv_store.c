// Math:    writes each token's keys and values into its slot of the paged cache, rounded to bf16, to 8 bits of
//          the largest of that head, or as they are.
// Shapes:  qkv [tokens, stride] f32; slots [tokens] (block × block_size + offset, or negative: nowhere); layouts of
//          the cache in attention.h.
// Launch:  threads take tokens; a step of few tokens stays on the caller.
// Bound:   cache lines touched: a key's elements lie a block's row apart.
// Checked: AttentionTests
// Source:  Kwon et al., "Efficient Memory Management for LLM Serving with PagedAttention" (2023)

#ifndef ISA

#include "attention.h"

/// Tokens below which the caller works alone.
#define STORE_ALONE 8

typedef struct {
    const float *qkv;
    int64_t tokens;
    int64_t stride;
    int64_t key_offset;
    int64_t value_offset;
    const int32_t *slots;
    const cpu_kv_layer *layer;
    work_counter next;
} store_arguments;

#define FAMILY "kv_store.c"
#include "each_isa.h"

static const worker_task store_tasks[CPU_ISA_COUNT] = EACH_ISA(store_task);

void cpu_store_kv(
    cpu_context *context, const float *qkv, int64_t tokens, int64_t stride, int64_t key_offset, int64_t value_offset,
    const int32_t *slots, const cpu_kv_layer *layer) {
    operation whole = { OPERATION_STORE, tokens, .store = { qkv, stride, key_offset, value_offset, slots, *layer } };
    if (record(context, whole)) return;
    store_arguments arguments = {
        .qkv = qkv, .tokens = tokens, .stride = stride, .key_offset = key_offset, .value_offset = value_offset,
        .slots = slots, .layer = layer,
    };
    if (tokens < STORE_ALONE) run_alone(context, store_tasks[context->isa], &arguments);
    else run_on_available(context, store_tasks[context->isa], &arguments);
}

#else

#define store_f32 NAME(store_f32)
#define store_bf16 NAME(store_bf16)
#define store_int8 NAME(store_int8)
#include "attention_rounding.h"

#define round_bytes NAME(round_bytes)
#define store_token NAME(store_token)

/// One token's key and value of one head, whose part of the block begins at element `base`.
INLINE void store_f32(const cpu_kv_layer *layer, int64_t base, int64_t offset, const float *key, const float *value) {
    int64_t head_dim = layer->head_dim, block_size = layer->block_size;
    float *keys = (float *)layer->keys + base + offset;
    for (int64_t d = 0; d < head_dim; d++) keys[d * block_size] = key[d];
    memcpy((float *)layer->values + base + offset * head_dim, value, (size_t)head_dim * sizeof(float));
}

INLINE void store_bf16(const cpu_kv_layer *layer, int64_t base, int64_t offset, const float *key, const float *value) {
    int64_t head_dim = layer->head_dim, block_size = layer->block_size;
    uint8_t *keys = (uint8_t *)layer->keys + 2 * base + 4 * offset;
    uint16_t *values = (uint16_t *)layer->values + base + offset / 2 * 2 * head_dim + offset % 2;
    for (int64_t d = 0; d < head_dim; d += 8) {
        f32x8 k = *(const f32x8 *)(key + d), v = *(const f32x8 *)(value + d);
        f32x16 both = __builtin_shufflevector(k, v, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        u16x16 rounded = round_to_bf16(both);
        for (int i = 0; i < 8; i += 2) {
            uint16_t pair[2] = { rounded[i], rounded[i + 1] };
            memcpy(keys + (d + i) / 2 * block_size * 4, pair, 4);
        }
        for (int i = 0; i < 8; i++) values[(d + i) * 2] = rounded[8 + i];
    }
}

/// Rounds `count` elements, at most 256, to 8 bits of the largest; returns their scale, NaN where one of them is.
INLINE float round_bytes(const float *x, int64_t count, int8_t *target) {
    const float largest = largest_size(x, count), factor = largest >= 1e-30f ? 127.0f / largest : 0;
    for (int64_t d = 0; d < count; d += 8) {
        // The sum rounds to a whole number, which its low bits then are.
        f32x8 rounded = *(const f32x8 *)(x + d) * factor + 12582912.0f;
        *(s8x8 *)(target + d) = __builtin_convertvector((s32x8)rounded, s8x8);
    }
    return largest / 127.0f;
}

INLINE void store_int8(const cpu_kv_layer *layer, int64_t part, int64_t offset, const float *key, const float *value) {
    int64_t head_dim = layer->head_dim, block_size = layer->block_size;
    int64_t base = part * cpu_kv_head_bytes(CPU_KV_INT8, block_size, head_dim), scales = head_dim * block_size;
    uint8_t *keys = (uint8_t *)layer->keys + base, *values = (uint8_t *)layer->values + base;
    int8_t rounded[256];
    float scale = round_bytes(key, head_dim, rounded);
    memcpy(keys + scales + 4 * offset, &scale, sizeof scale);
    for (int64_t d = 0; d < head_dim; d += 4) {
        uint32_t quad;
        memcpy(&quad, rounded + d, sizeof quad);
        // Adds 128 to each byte.
        quad ^= 0x80808080;
        memcpy(keys + (d * block_size + 4 * offset), &quad, sizeof quad);
    }
    scale = round_bytes(value, head_dim, rounded);
    memcpy(values + scales + 4 * offset, &scale, sizeof scale);
    values += offset / 4 * 4 * head_dim + offset % 4;
    for (int64_t d = 0; d < head_dim; d++) values[4 * d] = (uint8_t)rounded[d];
}

/// One token's keys and values of all heads.
INLINE void store_token(const store_arguments *a, int64_t token) {
    const cpu_kv_layer *layer = a->layer;
    int64_t head_dim = layer->head_dim, block_size = layer->block_size;
    if (a->slots[token] < 0) return;
    int64_t block = a->slots[token] / block_size, offset = a->slots[token] % block_size;
    for (int64_t h = 0; h < layer->kv_heads; h++) {
        const float *key = a->qkv + token * a->stride + a->key_offset + h * head_dim;
        const float *value = a->qkv + token * a->stride + a->value_offset + h * head_dim;
        int64_t part = block * layer->kv_heads + h, base = part * head_dim * block_size;
        if (layer->type == CPU_KV_BF16) store_bf16(layer, base, offset, key, value);
        else if (layer->type == CPU_KV_INT8) store_int8(layer, part, offset, key, value);
        else store_f32(layer, base, offset, key, value);
    }
}

static void NAME(store_task)(void *arguments, const team *team, int worker) {
    (void)worker;
    store_arguments *a = arguments;
    int64_t begin, end, at_a_time = rows_at_a_time(a->tokens, team);
    while (take_rows(&a->next, a->tokens, at_a_time, &begin, &end)) {
        for (int64_t t = begin; t < end; t++) store_token(a, t);
    }
}

#endif
