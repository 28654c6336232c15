// A tile's sums in linear_hopper.cu once a slice is added up: where a thread keeps the totals of all slices so far, and what
// becomes of them, at once or piece by piece while the next tile is multiplied.

#ifndef APUS_HOPPER_TILES_CUH
#define APUS_HOPPER_TILES_CUH

#include "endings.cuh"
#include "hopper.cuh"
#include "ranks.cuh"

namespace linear_hopper {

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

}  // namespace linear_hopper

#endif
