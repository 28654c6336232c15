// Math:    output[t][r] (+)= Σ_k W[r][k] · x[t][k], W and x bf16, f32 sums; or both E4M3, of scales of rows and 128
//          columns and of tokens; or what cuda/endings.cuh makes of the sums.
// Shapes:  x [tokens, columns], W in swizzled tiles of 64 × 128 bytes (cuda/tiles.h), output [tokens, ≥ rows] f32.
// Launch:  persistent blocks of one copying warp and one or two warpgroups that multiply 64 rows each by 8 to 256 tokens
//          with wgmma; weights are always the 64-row operand. Tiles too few for the device are cut into slices of K. Of
//          more than 64 tokens, blocks come in pairs on 256 rows: each copies half of the tokens into both.
// Bound:   bytes of W up to some 150 tokens, then tensor instructions; predictions are in docs/benchmarks/h200.md.
// Checked: Conformance, on an emulated wgmma and copy engine: f64 reference, bits over batches and orders of threads
// Source:  persistent warp-specialised pipelines and multicast: CUTLASS, fast.cu; layouts and the order of sums are its own.
//
// The order of a row's sums does not depend on the number of tokens: k runs through a slice in one chain of products of
// 16 (of bytes: chains of four products of 32, added in f32), four slices are added in order, by one group or by the last
// of four blocks to finish. A group so has two sets of sums, and while the first slice of its next tile fills the one, the
// finished other leaves for memory.

#include "cuda/endings.cuh"
#include "cuda/hopper.cuh"
#include "cuda/ranks.cuh"

namespace linear_hopper {

#ifdef __CUDACC__
static_assert(alignof(cuda_linear_hopper_arguments) == 64 && sizeof(cuda_linear_hopper_arguments) == 384, "of a map");
#endif

// MARK: Work

/// A block's tile, or a slice of one.
struct work_item {
    /// The second of a pair may lie beyond the matrix: it is multiplied all the same, as a partner has to keep step.
    int row_tile, token_tile;
    /// The tile's place among sums and arrivals, and the slices to take.
    int tile, first_slice, last_slice;
};

struct work_list {
    int units, row_tiles, token_tiles, items;
    bool is_split;
    /// Blocks that work together on an item, and which of them this is.
    int together, rank;

    template <int format, int tokens> static __device__ work_list of(const cuda_linear_hopper_arguments &a) {
        work_list list;
        list.units = hopper_tiles(a.matrix.columns, hopper_unit_columns(format));
        list.row_tiles = hopper_tiles(a.matrix.rows, hopper_rows_together(tokens));
        list.token_tiles = hopper_tiles(a.token_count, tokens);
        const int tiles = list.row_tiles * list.token_tiles;
        list.is_split = hopper_is_split(tokens, tiles, a.multiprocessors);
        list.items = list.is_split ? tiles * CUDA_HOPPER_SLICES : tiles;
        list.together = hopper_together(tokens);
        list.rank = static_cast<int>(blockIdx.x) % list.together;
        return list;
    }

    /// The block's first item, and how far it is from one to the next.
    __device__ int first() const { return static_cast<int>(blockIdx.x) / together; }
    __device__ int stride() const { return static_cast<int>(gridDim.x) / together; }

    __device__ work_item item(int index) const {
        work_item result;
        const int tile = is_split ? index / CUDA_HOPPER_SLICES : index;
        const int place = hopper_tile(tile, row_tiles, token_tiles);
        result.row_tile = place / token_tiles * together + rank;
        result.token_tile = place % token_tiles;
        result.tile = tile * together + rank;
        result.first_slice = is_split ? index % CUDA_HOPPER_SLICES : 0;
        result.last_slice = is_split ? result.first_slice + 1 : CUDA_HOPPER_SLICES;
        return result;
    }
};

/// A place in the ring, and how often it has come round.
template <int stages> struct ring_place {
    int stage = 0;
    uint32_t parity = 0;

    __device__ void advance() {
        stage++;
        if (stage < stages) return;
        stage = 0;
        parity ^= 1;
    }
};

// MARK: Copying

/// A block's units, one after the other.
struct unit_walk {
    const work_list &list;
    int index, unit, last_unit;
    work_item item;

    __device__ unit_walk(const work_list &list) : list(list), index(list.first()), unit(0), last_unit(0) {
        enter();
    }

    __device__ bool is_over() const { return index >= list.items; }

    __device__ void advance() {
        if (++unit < last_unit) return;
        index += list.stride();
        enter();
    }

    /// Goes on to the next item that has units: a slice of few columns may have none.
    __device__ void enter() {
        for (; index < list.items; index += list.stride()) {
            item = list.item(index);
            unit = hopper_slice_start(list.units, item.first_slice);
            last_unit = hopper_slice_start(list.units, item.last_slice);
            if (unit < last_unit) return;
        }
    }
};

/// Announces a unit's bytes and starts copying its weights.
template <int tokens>
APUS_DEVICE void copy_weights(
    const cuda_linear_hopper_arguments &a, const unit_walk &walk, uint8_t *stage, uint64_t *filled) {
    constexpr int consumers = hopper_consumers(tokens);
    const int first = walk.item.row_tile * consumers;
    // Of the last tiles some may not exist; what the stage then holds is multiplied and not written.
    const int count = max(0, min(consumers, hopper_tiles(a.matrix.rows, CUDA_SWIZZLED_ROWS) - first));
    barrier_arrive(filled, static_cast<uint32_t>(count * CUDA_SWIZZLED_BYTES + tokens * CUDA_SWIZZLED_ROW_BYTES));
    for (int i = 0; i < count; i++) {
        const int64_t tile = static_cast<int64_t>(first + i) * walk.list.units + walk.unit;
        copy_bytes(
            stage + i * CUDA_SWIZZLED_BYTES, at<const uint8_t>(a.matrix.data, tile * CUDA_SWIZZLED_BYTES),
            CUDA_SWIZZLED_BYTES, filled, walk.list.token_tiles == 1);
    }
}

/// Starts copying a unit's activations, or this block's half of them for both. The other block's room is known to be free,
/// for it counts its own where this block waits; that its barrier may not have been told of the bytes yet does no harm.
template <int tokens>
APUS_DEVICE void copy_activations(
    const cuda_linear_hopper_arguments &a, const unit_walk &walk, uint8_t *place, uint64_t *filled) {
    constexpr int rows = hopper_box_rows(tokens);
    const int first = walk.list.rank * rows;
    const int column = walk.unit * CUDA_UNIT_COLUMNS, row = walk.item.token_tile * tokens + first;
    uint8_t *const own = place + first * CUDA_SWIZZLED_ROW_BYTES;
    if constexpr (hopper_together(tokens) == 2) copy_box_to_pair(own, &a.activations, column, row, filled);
    else copy_box(own, &a.activations, column, row, filled);
}

/// Keeps the ring full. Weights do not depend on the kernels in front: the first stages' are on their way before those
/// are done.
template <int tokens>
APUS_DEVICE void fill_ring(
    const cuda_linear_hopper_arguments &a, const work_list &list, uint8_t *ring, uint64_t *filled, uint64_t *emptied) {
    constexpr int stages = hopper_stages(tokens), stage_bytes = hopper_stage_bytes(tokens);
    int ahead = 0;
    for (unit_walk walk(list); ahead < stages && !walk.is_over(); walk.advance(), ahead++) {
        copy_weights<tokens>(a, walk, ring + ahead * stage_bytes, filled + ahead);
    }
    wait_for_dependencies();
    ring_place<stages> place;
    for (unit_walk walk(list); !walk.is_over(); walk.advance(), place.advance(), ahead--) {
        uint8_t *const stage = ring + place.stage * stage_bytes;
        if (ahead <= 0) {
            barrier_wait(emptied + place.stage, place.parity ^ 1, a.stuck, CUDA_STUCK_ROOM, "room in the ring");
            copy_weights<tokens>(a, walk, stage, filled + place.stage);
        }
        copy_activations<tokens>(
            a, walk, stage + hopper_consumers(tokens) * CUDA_SWIZZLED_BYTES, filled + place.stage);
    }
}

// MARK: Multiplying

template <int count> APUS_DEVICE void clear(float (&sums)[count]) {
#pragma unroll
    for (int i = 0; i < count; i++) sums[i] = 0;
}

/// Where a warp's share of the ring is, and its place there.
template <int tokens> struct operand_ring {
    uint32_t start;
    const uint64_t *filled;
    uint64_t *emptied;
    ring_place<hopper_stages(tokens)> place;

    /// The stage to multiply, once it is there: descriptors of the own warpgroup's weights and of the activations.
    __device__ void wait(const cuda_linear_hopper_arguments &a, uint64_t &weights, uint64_t &activations) const {
        barrier_wait(filled + place.stage, place.parity, a.stuck, CUDA_STUCK_OPERANDS, "operands");
        const uint32_t stage = start + static_cast<uint32_t>(place.stage * hopper_stage_bytes(tokens));
        weights = swizzled_operand(stage + static_cast<uint32_t>(warp_index() / 4 * CUDA_SWIZZLED_BYTES));
        activations = swizzled_operand(stage + hopper_consumers(tokens) * CUDA_SWIZZLED_BYTES);
    }
};

/// Gives a stage's room back, to the copying warps of all blocks that write there.
template <int tokens> APUS_DEVICE void release(const operand_ring<tokens> &ring, int stage) {
    if constexpr (hopper_together(tokens) == 2) {
        if (lane_index() < 2) barrier_arrive_in(ring.emptied + stage, static_cast<uint32_t>(lane_index()));
    } else {
        if (lane_index() == 0) barrier_arrive(ring.emptied + stage);
    }
}

/// The sums of a slice's units, bf16. One unit's products are under way while the next is waited for; its room is given
/// back when they are done. `meanwhile` is called once a unit, while its products are under way.
template <int tokens, class Meanwhile>
APUS_DEVICE void multiply_slice(
    const cuda_linear_hopper_arguments &a, int units, operand_ring<tokens> &ring, float (&sums)[tokens / 2],
    const Meanwhile &meanwhile) {
    int previous = 0;
    clear(sums);
#pragma unroll 1
    for (int unit = 0; unit < units; unit++) {
        uint64_t weights, activations;
        ring.wait(a, weights, activations);
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < 4; step++) {
            wgmma(sums, weights + 2 * step, activations + 2 * step, true);
        }
        wgmma_commit();
        wgmma_wait<1>(sums);
        if (unit > 0) release<tokens>(ring, previous);
        previous = ring.place.stage;
        ring.place.advance();
        meanwhile();
    }
    wgmma_wait<0>(sums);
    if (units > 0) release<tokens>(ring, previous);
}

/// The same of 8-bit floats, whose products the device adds with 14 bits: no further than a unit's 128 columns, whose
/// sums are then scaled and added in f32. `scales` are of the thread's first row, for the slice's units from `first` on.
template <int tokens, class Meanwhile>
APUS_DEVICE void multiply_slice_of_bytes(
    const cuda_linear_hopper_arguments &a, int first, int units, const float *scales, operand_ring<tokens> &ring,
    float (&sums)[tokens / 2], const Meanwhile &meanwhile) {
    float products[tokens / 2];
    clear(products);
    clear(sums);
#pragma unroll 1
    for (int unit = 0; unit < units; unit++) {
        const float *const own = scales + ((first + unit) >> a.matrix.group_shift) * CUDA_SWIZZLED_ROWS;
        const float low = own[0], high = own[8];
        uint64_t weights, activations;
        ring.wait(a, weights, activations);
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < 4; step++) {
            wgmma_e4m3(products, weights + 2 * step, activations + 2 * step, step > 0);
        }
        wgmma_commit();
        meanwhile();
        wgmma_wait<0>(products);
        release<tokens>(ring, ring.place.stage);
        ring.place.advance();
#pragma unroll
        for (int i = 0; i < tokens / 2; i++) sums[i] = fmaf(i % 4 < 2 ? low : high, products[i], sums[i]);
    }
}

// MARK: Totals

/// A thread's sums of all slices so far, in pieces of four: two rows of a thread for two of eight tokens. What registers
/// have no room for lies in shared memory, where only its own thread looks.
template <int tokens> struct totals {
    static constexpr int pieces = tokens / 8, kept_pieces = pieces - hopper_parked(tokens) / 4;

    float kept[4 * kept_pieces];
    /// Of the thread, 128 · consumers apart.
    float4 *parked;

    __device__ explicit totals(uint8_t *memory)
        : parked(reinterpret_cast<float4 *>(memory + hopper_ring_bytes(tokens)) + threadIdx.x) {}

    __device__ float4 *parked_piece(int piece) const {
        return parked + (piece - kept_pieces) * 128 * hopper_consumers(tokens);
    }

    /// Adds a slice's sums, the first to zero.
    __device__ void add(const float (&sums)[tokens / 2], bool is_first) {
#pragma unroll
        for (int i = 0; i < 4 * kept_pieces; i++) kept[i] = (is_first ? 0 : kept[i]) + sums[i];
#pragma unroll
        for (int piece = kept_pieces; piece < pieces; piece++) {
            float4 *const place = parked_piece(piece);
            const float4 so_far = is_first ? make_float4(0, 0, 0, 0) : *place;
            const float *const own = sums + 4 * piece;
            *place = make_float4(so_far.x + own[0], so_far.y + own[1], so_far.z + own[2], so_far.w + own[3]);
        }
    }

    /// Piece `first + index`, of an index below `count` that the compiler does not know: registers have none, so all that
    /// could be meant are looked at.
    template <int first, int count> __device__ void read(int index, float *values) const {
        if (first + index >= kept_pieces) {
            const float4 four = *parked_piece(first + index);
            values[0] = four.x, values[1] = four.y, values[2] = four.z, values[3] = four.w;
        }
#pragma unroll
        for (int i = 0; i < count && first + i < kept_pieces; i++) {
            if (i != index) continue;
#pragma unroll
            for (int e = 0; e < 4; e++) values[e] = kept[4 * (first + i) + e];
        }
    }
};

/// Leaves a slice's sums to be added. True for the last of a tile's slices, in whose registers their total then is.
template <int tokens>
APUS_DEVICE bool add_slices(const cuda_linear_hopper_arguments &a, const work_item &item, float (&total)[tokens / 2]) {
    constexpr int threads = 128 * hopper_consumers(tokens), pieces = tokens / 8;
    __shared__ bool is_last;
    const int64_t slice_pieces = static_cast<int64_t>(threads) * pieces;
    float4 *const partial =
        at<float4>(a.partial) + static_cast<int64_t>(item.tile) * CUDA_HOPPER_SLICES * slice_pieces + threadIdx.x;
#pragma unroll
    for (int i = 0; i < pieces; i++) {
        partial[item.first_slice * slice_pieces + i * threads] =
            make_float4(total[4 * i], total[4 * i + 1], total[4 * i + 2], total[4 * i + 3]);
    }
    device_fence();
    named_barrier(1, threads);
    if (threadIdx.x == 0) {
        uint32_t *const arrivals = at<uint32_t>(a.arrivals, item.tile);
        is_last = atomicAdd(arrivals, 1u) == CUDA_HOPPER_SLICES - 1;
        // Ready for the next launch.
        if (is_last) *arrivals = 0;
        device_fence();
    }
    named_barrier(1, threads);
    if (!is_last) return false;
    clear(total);
#pragma unroll 1
    for (int slice = 0; slice < CUDA_HOPPER_SLICES; slice++) {
#pragma unroll
        for (int i = 0; i < pieces; i++) {
            const uint4 bits = load_coherent_16(partial + slice * slice_pieces + i * threads);
            const float sums[4] = {
                __uint_as_float(bits.x), __uint_as_float(bits.y), __uint_as_float(bits.z), __uint_as_float(bits.w)};
#pragma unroll
            for (int e = 0; e < 4; e++) total[4 * i + e] = total[4 * i + e] + sums[e];
        }
    }
    return true;
}

// MARK: Endings

/// Pieces of a tile that a thread ends together: `count` of them, `apart` from one another.
template <int tokens, int count> struct ended_pieces {
    const cuda_linear_hopper_arguments &a;
    int row_tile, token_tile, first, apart;

    /// The token of a sum, and whether there is one.
    __device__ int token(int index) const {
        const int piece = first + index / 4 * apart;
        return token_tile * tokens + 8 * piece + lane_index() % 4 * 2 + index % 2;
    }
    __device__ bool has_token(int index) const { return token(index) < a.token_count; }

    /// The first of a thread's two rows, 8 apart, as they are packed.
    __device__ int packed_row() const {
        return row_tile * hopper_rows(tokens) + 16 * warp_index() + lane_index() / 4;
    }

    /// Multiplies sums of 8-bit floats by the scales of their tokens.
    __device__ void scale(float (&sums)[4 * count]) const {
#pragma unroll
        for (int i = 0; i < 4 * count; i++) {
            if (has_token(i)) sums[i] = sums[i] * at<const float>(a.input_scales)[token(i)];
        }
    }

    /// Leaves the best of each sixteen rows for each token.
    __device__ void write_ranks(const float (&sums)[4 * count]) const {
        const int tile = row_tile * hopper_consumers(tokens) * 4 + warp_index();
#pragma unroll
        for (int i = 0; i < 4 * count; i++) {
            if (i % 4 >= 2) continue;
            write_best(a.ranks, a.matrix.rows, tile, token(i), a.token_count, lane_index(), sums[i], sums[i + 2]);
        }
    }

    /// Whether a sum is of an element of the output, and where that lies.
    __device__ bool exists(int index, bool has_second) const { return has_token(index) && (index % 4 < 2 || has_second); }
    __device__ float *place(int index, row_pair rows, int stride) const {
        return at<float>(a.output, static_cast<int64_t>(token(index)) * stride) + (index % 4 < 2 ? rows.first : rows.second);
    }

    /// Stores or adds sums. All that is added to is read before anything is written: a compiler cannot know that the one
    /// is not the other, and would wait for each in turn.
    __device__ void write_plain(row_pair rows, bool has_second, float (&sums)[4 * count]) const {
        int stride = a.output_stride;
        if (a.accumulate != 0) {
            float before[4 * count];
#pragma unroll
            for (int i = 0; i < 4 * count; i++) before[i] = exists(i, has_second) ? *place(i, rows, stride) : 0;
#pragma unroll
            for (int i = 0; i < 4 * count; i++) sums[i] = before[i] + sums[i];
        }
        if (a.ending.bias != 0) {
            const float *const bias = at<const float>(a.ending.bias);
            const float first = bias[rows.first], second = has_second ? bias[rows.second] : 0;
#pragma unroll
            for (int i = 0; i < 4 * count; i++) sums[i] = sums[i] + (i % 4 < 2 ? first : second);
        }
        // Addresses take two registers each.
        compute_late(stride);
#pragma unroll
        for (int i = 0; i < 4 * count; i++) {
            if (exists(i, has_second)) *place(i, rows, stride) = sums[i];
        }
    }

    /// What becomes of the sums. A store is of a sector: 8 rows of one token.
    template <int format> __device__ void end(float (&sums)[4 * count]) const {
        if constexpr (format == CUDA_WEIGHT_E4M3) scale(sums);
        if (a.ranks != 0) return write_ranks(sums);
        const int packed = packed_row();
        if (packed >= a.matrix.rows) return;
        const row_pair rows = rows_of(a.matrix, packed);
        const bool has_second = packed + 8 < a.matrix.rows;
        if (a.ending.kind == CUDA_ENDING_PLAIN) return write_plain(rows, has_second, sums);
#pragma unroll
        for (int i = 0; i < 4 * count; i++) {
            if (i % 4 >= 2 || !has_token(i)) continue;
            if constexpr (tokens <= CUDA_ENDING_HEADS_TOKENS) {
                end_pair<true>(
                    a.ending, a.matrix, a.output, a.output_stride, false, rows, has_second, token(i), sums[i],
                    sums[i + 2]);
            } else {
                end_gated(a.ending, a.output, a.output_stride, rows, token(i), sums[i], sums[i + 2]);
            }
        }
    }
};

/// A finished tile on its way out: a step ends two of its pieces, half a tile apart.
template <int format, int tokens> struct leaving_tile {
    static constexpr int steps = tokens / 16;

    int row_tile, token_tile;
    /// The next step; `steps` when nothing is left.
    int next;

    __device__ void begin(const work_item &finished) {
        row_tile = finished.row_tile;
        token_tile = finished.token_tile;
        next = 0;
    }

    __device__ void advance(const cuda_linear_hopper_arguments &a, const totals<tokens> &total, int most) {
#pragma unroll 1
        for (const int last = min(steps, next + most); next < last; next++) {
            float sums[8] = {};
            total.template read<0, steps>(next, sums);
            total.template read<steps, steps>(next, sums + 4);
            ended_pieces<tokens, 2> pieces = {a, row_tile, token_tile, next, steps};
            compute_late(pieces.row_tile);
            compute_late(pieces.token_tile);
            pieces.template end<format>(sums);
        }
    }
};

/// Ends a row tile: after the last of them rows are normalized, where that is asked for.
template <int tokens> APUS_DEVICE void normalize(const cuda_linear_hopper_arguments &a, const work_list &list) {
    __shared__ norm_memory memory;
    if (a.ending.normed == 0) return;
    const auto wait = [] { named_barrier(1, 128); };
    if (!is_last_arrival(a.ending.arrivals, list.row_tiles, memory, wait)) return;
    normalize_rows<4>(a.ending, a.output, a.matrix.rows, a.token_count, memory, wait);
}

/// The sums of one slice of an item, after those before it in the ring.
template <int format, int tokens, class Meanwhile>
APUS_DEVICE void multiply_slice_of(
    const cuda_linear_hopper_arguments &a, const work_list &list, const work_item &item, int slice,
    operand_ring<tokens> &ring, float (&sums)[tokens / 2], const Meanwhile &meanwhile) {
    const int first = hopper_slice_start(list.units, slice);
    const int units = hopper_slice_start(list.units, slice + 1) - first;
    if constexpr (format == CUDA_WEIGHT_E4M3) {
        const int groups = hopper_groups(list.units, a.matrix.group_shift);
        // Of the last tiles some may not exist.
        const int tile = min(
            item.row_tile * hopper_consumers(tokens) + warp_index() / 4,
            hopper_tiles(a.matrix.rows, CUDA_SWIZZLED_ROWS) - 1);
        const float *const scales = at<const float>(
            a.matrix.scales, static_cast<int64_t>(tile) * groups * CUDA_SWIZZLED_ROWS
                + warp_index() % 4 * 16 + lane_index() / 4);
        multiply_slice_of_bytes<tokens>(a, first, units, scales, ring, sums, meanwhile);
    } else {
        multiply_slice<tokens>(a, units, ring, sums, meanwhile);
    }
}

/// Up to 64 tokens. Two blocks of a multiprocessor take turns, so that a tile ends when it is done.
template <int format, int tokens>
APUS_DEVICE void multiply_items(
    const cuda_linear_hopper_arguments &a, const work_list &list, uint8_t *memory, operand_ring<tokens> &ring) {
    totals<tokens> total(memory);
    float sums[tokens / 2];
#pragma unroll 1
    for (int index = list.first(); index < list.items; index += list.stride()) {
        const work_item item = list.item(index);
#pragma unroll 1
        for (int slice = item.first_slice; slice < item.last_slice; slice++) {
            multiply_slice_of<format, tokens>(a, list, item, slice, ring, sums, [] {});
            total.add(sums, slice == item.first_slice);
        }
        if (list.is_split && !add_slices<tokens>(a, item, total.kept)) continue;
        ended_pieces<tokens, tokens / 8>{a, item.row_tile, item.token_tile, 0, 1}.template end<format>(total.kept);
        if constexpr (tokens == 8) normalize<tokens>(a, list);
    }
}

/// More than 64 tokens: one block of a multiprocessor, in which a tile leaves while the next one's first slice is
/// multiplied, evenly spread over its units.
template <int format, int tokens>
APUS_DEVICE void multiply_wide_items(
    const cuda_linear_hopper_arguments &a, const work_list &list, uint8_t *memory, operand_ring<tokens> &ring) {
    totals<tokens> total(memory);
    float sums[tokens / 2];
    leaving_tile<format, tokens> leaving;
    leaving.next = leaving.steps;
    const int steps_of_unit = hopper_tiles(leaving.steps, max(1, list.units / CUDA_HOPPER_SLICES));
#pragma unroll 1
    for (int index = list.first(); index < list.items; index += list.stride()) {
        const work_item item = list.item(index);
#pragma unroll 1
        for (int slice = item.first_slice; slice < item.last_slice; slice++) {
            multiply_slice_of<format, tokens>(
                a, list, item, slice, ring, sums, [&] { leaving.advance(a, total, steps_of_unit); });
            // Its place is needed now.
            leaving.advance(a, total, leaving.steps);
            total.add(sums, slice == item.first_slice);
        }
        if constexpr (hopper_parked(tokens) == 0) {
            if (list.is_split && !add_slices<tokens>(a, item, total.kept)) continue;
        }
        leaving.begin(item);
    }
    leaving.advance(a, total, leaving.steps);
}

template <int format, int tokens> APUS_DEVICE void multiply(const cuda_linear_hopper_arguments &a) {
    constexpr int consumers = hopper_consumers(tokens), stages = hopper_stages(tokens);
    constexpr bool is_pair = hopper_together(tokens) == 2;
    // Of a multiprocessor's 65,536 registers.
    constexpr int multiplying = tokens > 160 || format == CUDA_WEIGHT_E4M3 ? 240 : 232, copying = 504 - 2 * multiplying;
    static_assert(consumers == 1 || 128 * (consumers * multiplying + copying) <= 65536, "more registers than there are");
    DYNAMIC_SHARED(uint8_t, memory);
    __shared__ uint64_t filled[stages], emptied[stages];
    release_dependents();
    if (threadIdx.x == 0) {
        for (int i = 0; i < stages; i++) {
            barrier_init(filled + i, 1);
            barrier_init(emptied + i, 4 * consumers * hopper_together(tokens));
        }
        barrier_fence();
    }
    if constexpr (is_pair) pair_sync();
    else block_sync();
    const work_list list = work_list::of<format, tokens>(a);
    // From one lane, so that the compiler sees that warps do not diverge.
    if (shuffle(warp_index(), 0) < 4 * consumers) {
        if constexpr (consumers > 1) take_registers<multiplying>();
        wait_for_dependencies();
        operand_ring<tokens> ring = {shared_address(memory), filled, emptied, {}};
        if constexpr (consumers > 1) multiply_wide_items<format, tokens>(a, list, memory, ring);
        else multiply_items<format, tokens>(a, list, memory, ring);
    } else {
        if constexpr (consumers > 1) give_registers<copying>();
        if (threadIdx.x == 128 * consumers) fill_ring<tokens>(a, list, memory, filled, emptied);
    }
    if constexpr (is_pair) pair_sync();
}

}  // namespace linear_hopper

#define LINEAR_HOPPER(KERNEL, name, format, tokens) \
    namespace linear_hopper { \
    APUS_DEVICE void body_##name##_##tokens(const cuda_linear_hopper_arguments &a) { multiply<format, tokens>(a); } \
    } \
    KERNEL( \
        name##_##tokens, cuda_linear_hopper_arguments, hopper_threads(tokens), hopper_blocks(tokens), \
        linear_hopper::body_##name##_##tokens)

LINEAR_HOPPER(APUS_HOPPER_KERNEL, linear_hopper, CUDA_WEIGHT_BF16, 8)
LINEAR_HOPPER(APUS_HOPPER_KERNEL, linear_hopper, CUDA_WEIGHT_BF16, 16)
LINEAR_HOPPER(APUS_HOPPER_KERNEL, linear_hopper, CUDA_WEIGHT_BF16, 32)
LINEAR_HOPPER(APUS_HOPPER_KERNEL, linear_hopper, CUDA_WEIGHT_BF16, 64)
LINEAR_HOPPER(APUS_HOPPER_PAIR_KERNEL, linear_hopper, CUDA_WEIGHT_BF16, 128)
LINEAR_HOPPER(APUS_HOPPER_PAIR_KERNEL, linear_hopper, CUDA_WEIGHT_BF16, 160)
LINEAR_HOPPER(APUS_HOPPER_PAIR_KERNEL, linear_hopper, CUDA_WEIGHT_BF16, 192)
LINEAR_HOPPER(APUS_HOPPER_PAIR_KERNEL, linear_hopper, CUDA_WEIGHT_BF16, 224)
LINEAR_HOPPER(APUS_HOPPER_PAIR_KERNEL, linear_hopper, CUDA_WEIGHT_BF16, 256)
LINEAR_HOPPER(APUS_HOPPER_KERNEL, linear_hopper_e4m3, CUDA_WEIGHT_E4M3, 8)
LINEAR_HOPPER(APUS_HOPPER_KERNEL, linear_hopper_e4m3, CUDA_WEIGHT_E4M3, 16)
LINEAR_HOPPER(APUS_HOPPER_KERNEL, linear_hopper_e4m3, CUDA_WEIGHT_E4M3, 32)
LINEAR_HOPPER(APUS_HOPPER_KERNEL, linear_hopper_e4m3, CUDA_WEIGHT_E4M3, 64)
LINEAR_HOPPER(APUS_HOPPER_PAIR_KERNEL, linear_hopper_e4m3, CUDA_WEIGHT_E4M3, 128)

#undef LINEAR_HOPPER
