// Where in the paged cache a chunk's keys and values lie; included by attention.c once for each instruction set. Private.

#define find_keys NAME(find_keys)
#define find_values NAME(find_values)
#define find_ahead NAME(find_ahead)

/// Where the keys of each 16 positions from `first` on lie; returns the bytes between the rows of their layout. Blocks
/// behind the position `least` of the chunk are not looked for.
INLINE int64_t find_keys(
    const cpu_kv_layer *layer, const int32_t *table, int64_t kv_head, int64_t first, int least, int positions,
    const workspace *w, const uint8_t *keys[CHUNK / 16], int32_t type) {
    int64_t block_size = layer->block_size, head_dim = layer->head_dim;
    int64_t rows = type == CPU_KV_BF16 ? head_dim / 2 : type == CPU_KV_INT8 ? head_dim / 4 : head_dim;
    int64_t head_bytes = cpu_kv_head_bytes(type, block_size, head_dim);
    int count = (positions + 15) / 16;
    for (int i = least / 16; i < count; i++) {
        int64_t position = first + 16 * i;
        const uint8_t *parts[2];
        for (int half = 0; half < (block_size < 16 ? 2 : 1); half++) {
            // Blocks of 8 give two halves; a block that is not in the table is not looked for.
            int64_t at = 16 * i + 8 * half < positions ? position + 8 * half : position;
            if (block_size < 16 && at < first + least / 8 * 8) at = first + least / 8 * 8;
            int64_t block = table[at / block_size] * layer->kv_heads + kv_head;
            parts[half] = (const uint8_t *)layer->keys + block * head_bytes + at % block_size * 4;
        }
        keys[i] = parts[0];
        if (block_size >= 16) continue;
        uint8_t *copy = (uint8_t *)w->copied_keys + i * rows * 64;
        for (int64_t row = 0; row < rows; row++) {
            memcpy(copy + row * 64, parts[0] + row * block_size * 4, 32);
            memcpy(copy + row * 64 + 32, parts[1] + row * block_size * 4, 32);
        }
        keys[i] = copy;
    }
    // Tiles take several of these; scores that only fill up a tile are never looked at.
    for (int i = count; i % MOST_WIDE != 0; i++) keys[i] = keys[count - 1];
    for (int i = least / 16; i % MOST_WIDE != 0; i--) keys[i - 1] = keys[least / 16];
    return block_size < 16 ? 64 : block_size * 4;
}

/// Where the values of each 8 positions from `first` on lie: block sizes are multiples of eight. `least` as for keys.
INLINE void find_values(
    const cpu_kv_layer *layer, const int32_t *table, int64_t kv_head, int64_t first, int least, int positions,
    const uint8_t *octets[CHUNK / 8], int32_t type) {
    int64_t block_size = layer->block_size, head_bytes = cpu_kv_head_bytes(type, block_size, layer->head_dim);
    int64_t position_bytes = layer->head_dim * (type == CPU_KV_BF16 ? 2 : type == CPU_KV_INT8 ? 1 : 4);
    for (int i = least / 8; 8 * i < positions; i++) {
        int64_t at = first + 8 * i, block = table[at / block_size] * layer->kv_heads + kv_head;
        octets[i] = (const uint8_t *)layer->values + block * head_bytes + at % block_size * position_bytes;
    }
    for (int i = 0; i < least / 8; i++) octets[i] = octets[least / 8];
}

/// Where the next chunk's keys lie, 16 positions' bytes at a time: the item's next chunk, or the first one of the item
/// that this thread will take next, as far as one can tell. Entries that are left over repeat.
INLINE void find_ahead(
    attention_arguments *a, const attention_item *item, int64_t chunk, const uint8_t *ahead[CHUNK / 16],
    const uint8_t *fallback) {
    const cpu_kv_layer *layer = a->layer;
    int64_t block_size = layer->block_size, next = chunk + 1;
    int64_t head_bytes = cpu_kv_head_bytes(layer->type, block_size, layer->head_dim);
    int64_t piece = layer->head_dim * (layer->type == CPU_KV_INT8 ? 16 : 32);
    for (int i = 0; i < CHUNK / 16; i++) ahead[i] = fallback;
    if (next == item->first_chunk + item->chunk_count) {
        item += 1;
        bool is_last = (item - a->items) % a->items_together == 0;
        if (is_last) item = a->items + atomic_load_explicit(&a->next.next, memory_order_relaxed);
        if (item >= a->items + a->item_count) return;
        next = item->first_chunk;
    }
    if (block_size < 16) return;
    const int32_t *table = a->batch->block_tables + item->sequence * a->batch->blocks_per_sequence;
    int64_t last = a->batch->positions[item->first_token], least = window_start(a->batch, item->first_token);
    for (int i = 0; i < CHUNK / 16 && next * CHUNK + 16 * i <= last; i++) {
        int64_t at = next * CHUNK + 16 * i;
        if (at < least) continue;
        int64_t block = table[at / block_size] * layer->kv_heads + item->kv_head;
        int64_t offset = block * head_bytes + at % block_size / 16 * piece;
        ahead[i] = (const uint8_t *)layer->keys + offset;
    }
}
