// Keys and values that the next attention will read, asked for while linear layers multiply. Private.
//
// Decoding sequences read their keys and values once a step, from memory, and multiply little; linear layers multiply
// much and leave half of memory's time unused. So each thread asks, a few lines for every block of weights, for what
// its own sequences have cached in the next layer: attention then finds it in a cache. Only a hint: no result changes.

#ifndef FETCH_AHEAD_H
#define FETCH_AHEAD_H

#include <stdint.h>

enum {
    /// Most bytes asked for ahead of one layer: what caches keep until then.
    MAX_FETCHED_BYTES = 4 << 20,
    MAX_FETCHED_BLOCKS = 4096,
    /// Cache lines for each block of weights before it is known how many such blocks a layer has, and the most.
    FIRST_FETCH_LINES = 3,
    MAX_FETCH_LINES = 8,
};

/// What one thread asks for. All zero asks for nothing.
typedef struct {
    /// [block_count] Blocks of the cache, each `block_bytes` of keys and as many of values.
    int32_t *blocks;
    int64_t block_count;
    int64_t block_capacity;
    const uint8_t *keys;
    const uint8_t *values;
    int64_t block_bytes;
    /// The next part: an even number is the keys of block `part / 2`, an odd one its values.
    int64_t part;
    /// What is left of the part before it.
    const uint8_t *at;
    int64_t left;
    /// Cache lines for each block of weights, and how many such blocks there have been.
    int64_t lines;
    int64_t turns;
} fetch_list;

/// Begins with the next part; false when all have been asked for. Inline: a call would spill the tile's sums.
static inline __attribute__((always_inline)) bool fetch_next_part(fetch_list *list) {
    if (list->part >= 2 * list->block_count) return false;
    const uint8_t *base = list->part % 2 == 0 ? list->keys : list->values;
    list->at = base + list->blocks[list->part / 2] * list->block_bytes;
    list->left = list->block_bytes;
    list->part += 1;
    return true;
}

/// Asks for the next few lines; called once for every block of weights that a tile of several tokens multiplies.
static inline __attribute__((always_inline)) void fetch_ahead(fetch_list *list) {
    list->turns += 1;
    if (list->left <= 0 && !fetch_next_part(list)) return;
    const uint8_t *at = list->at;
    int64_t bytes = 64 * list->lines;
    for (int64_t offset = 0; offset < bytes; offset += 64) __builtin_prefetch(at + offset, 0, 3);
    list->at = at + bytes;
    list->left -= bytes;
}

#endif
