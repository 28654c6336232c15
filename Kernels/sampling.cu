// Math:    x' = x as adjusted (adjustment.cu) and masked. Greedy: argmax x'. Otherwise p = softmax(x' / temperature), then min-p, top-k
//          and top-p in that order, then argmax of x' / temperature + Gumbel noise; drawn as argmin of E / p with
//          exponential E, which is the same and takes no second logarithm. Log-probabilities are those of softmax(x).
// Shapes:  logits [rows, vocab] f32, left as they are; vocab up to 2¹⁹.
// Launch:  a block per row. Filters find floors (selection.cuh) among candidates listed in shared memory. Where all rows
//          are greedy and nothing is asked of their logits, the head leaves the best of each tile (ranks.cuh) and
//          sample_greedily finds the best of those.
// Bound:   latency of one multiprocessor reading a row of logits from L2, two to four times.
// Checked: in the emulator (χ², sets against a sort, Philox against published vectors, masks)
// Source:  Salmon et al. (2011) for Philox; order of filters: vLLM

#include "cuda/philox.cuh"
#include "cuda/selection.cuh"

namespace {

/// Temperatures below this choose the most likely token.
constexpr float LEAST_TEMPERATURE = 1e-5f;
/// Distance from the best logit, in temperatures, at which a weight is 0.
constexpr float REACH = 87;

/// What a pass over the row finds out for a thread.
struct row_summary {
    uint64_t best_raw;
    uint64_t best;
    bool has_nan;
};

APUS_DEVICE row_summary summarize(const token_row &row, const token_row &raw) {
    row_summary summary = {0, 0, false};
    const bool is_raw = row.mask == nullptr && row.logits == raw.logits;
    for_each_four<4>(raw, [&](int first, const float (&logits)[4]) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int token = first + i;
            if (token >= row.vocab) continue;
            const uint64_t rank_raw = rank_of(logits[i], token);
            summary.best_raw = rank_raw > summary.best_raw ? rank_raw : summary.best_raw;
            const float logit = is_raw ? logits[i] : masked(row, token, row.logits[token]);
            const uint64_t rank = is_raw ? rank_raw : rank_of(logit, token);
            summary.best = rank > summary.best ? rank : summary.best;
            summary.has_nan = summary.has_nan || logits[i] != logits[i] || logit != logit;
        }
    });
    return summary;
}

/// log Σ e^(x − highest), the additions in an order that follows from the vocabulary.
APUS_DEVICE float log_of_sum(const token_row &raw, float highest, selection_workspace &w) {
    float sums[4] = {0, 0, 0, 0};
    for_each_four<4>(raw, [&](int, const float (&logits)[4]) {
#pragma unroll
        for (int i = 0; i < 4; i++) sums[i] += exponential(logits[i] - highest);
    });
    const float sum = warp_sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
    block_sync();
    if (lane_index() == 0) w.of_warps[warp_index()] = __float_as_uint(sum);
    block_sync();
    float total = 0;
    for (int warp = 0; warp < static_cast<int>(blockDim.x / 32); warp++) {
        total += __uint_as_float(static_cast<uint32_t>(w.of_warps[warp]));
    }
    return logarithm(total);
}

/// A floor that at least `count` tokens reach: the `count`-th best of the threads' best tokens.
APUS_DEVICE uint64_t floor_of_threads(
    const token_row &row, selection_workspace &w, uint64_t own, uint64_t best, uint64_t floor, uint64_t count) {
    block_sync();
    w.list[threadIdx.x] = own;
    block_sync();
    return floor_of_best(row, w, blockDim.x, floor, best, count, nullptr);
}

/// Reports the `count` best tokens, best first.
APUS_DEVICE void report_alternatives(
    const token_row &raw, selection_workspace &w, uint64_t own, uint64_t best, int count, float log_sum,
    cuda_sampling_result *result) {
    uint64_t floor = floor_of_threads(raw, w, own, best, 1, count);
    int listed = list_candidates(raw, w, floor);
    if (listed < 0) {
        floor = floor_of_best(raw, w, -1, floor, best, count, nullptr);
        listed = list_candidates(raw, w, floor);
    }
    for (int i = threadIdx.x; i < listed; i += blockDim.x) {
        int place = 0;
        for (int j = 0; j < listed; j++) place += w.list[j] > w.list[i] ? 1 : 0;
        if (place >= count) continue;
        result->alternative_tokens[place] = token_of(w.list[i]);
        result->alternative_logprobs[place] = (logit_of(w.list[i]) - logit_of(best)) - log_sum;
    }
}

/// The tokens that filters leave: the listed ones, or the row's when `listed` is negative, from a floor up.
struct kept_tokens {
    int listed;
    uint64_t floor;
};

/// The floor that leaves tokens of positive weight which reach min-p.
APUS_DEVICE uint64_t floor_of_weight(float highest, float temperature, float min_p) {
    // Never −∞: a masked token has no weight at any temperature.
    const uint64_t floor = lowest_rank(fmaxf(highest - REACH * temperature, -0x1.fffffep127f));
    if (!(min_p > 0)) return floor;
    const float distance = logarithm(fminf(fmaxf(min_p, 0x1p-126f), 1.0f)) * temperature;
    const uint64_t bound = lowest_rank(highest + distance);
    return bound > floor ? bound : floor;
}

APUS_DEVICE uint64_t mass_of_best(
    const token_row &row, selection_workspace &w, const kept_tokens &kept, const softmax_weights &weights) {
    uint64_t mass = 0;
    for_each_candidate<4>(
        row, w, kept.listed, kept.floor, [&](uint64_t rank) { mass += mass_of(weights, rank); });
    return block_sum(mass, w);
}

/// The mass that top-p asks for, at least that of the best token.
APUS_DEVICE uint64_t limit_of_mass(float top_p, uint64_t total) {
    const double limit = ceil(static_cast<double>(fmaxf(top_p, 0.0f)) * static_cast<double>(total));
    return limit < 1 ? 1 : static_cast<uint64_t>(limit);
}

/// Applies min-p, top-k and top-p. `own` is the thread's best token, `best` the row's.
APUS_DEVICE kept_tokens filter(
    const token_row &row, selection_workspace &w, uint64_t own, uint64_t best, const softmax_weights &weights,
    float temperature, const cuda_sampling_row *p) {
    kept_tokens kept = {-1, floor_of_weight(weights.highest, temperature, p->min_p)};
    const bool has_top_k = p->top_k > 0 && p->top_k < row.vocab, has_top_p = p->top_p < 1;
    if (!has_top_k && !has_top_p) return kept;
    uint64_t limit = 0;
    if (has_top_k) {
        kept.floor = floor_of_threads(row, w, own, best, kept.floor, p->top_k);
    } else {
        const uint64_t total = mass_of_best(row, w, kept, weights);
        limit = limit_of_mass(p->top_p, total);
        // Tokens lighter than this weigh less, all together, than what top-p leaves out.
        const uint64_t light = limit < total ? (total - limit) / static_cast<uint64_t>(row.vocab) : 0;
        if (light > 0) {
            const float distance = logarithm(static_cast<float>(light) * 0x1p-44f) - 0.01f;
            const uint64_t bound = lowest_rank(weights.highest + distance * temperature);
            kept.floor = bound > kept.floor ? bound : kept.floor;
        }
    }
    kept.listed = list_candidates(row, w, kept.floor);
    if (has_top_k) {
        kept.floor = floor_of_best(row, w, kept.listed, kept.floor, best, p->top_k, nullptr);
        if (!has_top_p) return kept;
        limit = limit_of_mass(p->top_p, mass_of_best(row, w, kept, weights));
    }
    kept.floor = floor_of_best(row, w, kept.listed, kept.floor, best, limit, &weights);
    return kept;
}

/// Lets tokens race: the least variate / weight wins, the lowest id among equals.
struct token_race {
    uint64_t seed;
    uint64_t position;
    float least;
    uint64_t winner;

    APUS_DEVICE uint4 words(int token) const {
        return philox(
            make_uint4(static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32), token / 4, 0), seed);
    }

    APUS_DEVICE void enter(int token, float weight, uint32_t word) {
        // A variate is at least its unit point (but for rounding): most tokens lose without a logarithm.
        if (unit_point(word) * 0.999f > least * weight) return;
        const float time = exponential_variate(word) / weight;
        const uint64_t entry = static_cast<uint64_t>(__float_as_uint(time)) << 32 | static_cast<uint32_t>(token);
        winner = entry < winner ? entry : winner;
        least = time < least ? time : least;
    }
};

APUS_DEVICE uint32_t word_at(uint4 words, int i) {
    return i == 0 ? words.x : i == 1 ? words.y : i == 2 ? words.z : words.w;
}

APUS_DEVICE int draw(
    const token_row &row, selection_workspace &w, const kept_tokens &kept, const softmax_weights &weights,
    const cuda_sampling_row *p) {
    token_race race = {p->seed, p->position, __int_as_float(0x7F800000), ~static_cast<uint64_t>(0)};
    if (kept.listed >= 0) {
        for_each_candidate<1>(row, w, kept.listed, kept.floor, [&](uint64_t rank) {
            const int token = token_of(rank);
            race.enter(token, weight_of(weights, logit_of(rank)), word_at(race.words(token), token % 4));
        });
    } else {
        for_each_four<2>(row, [&](int first, const float (&logits)[4]) {
            float four[4], heaviest = 0;
            bool is_entered[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                is_entered[i] = rank_of(logits[i], first + i) >= kept.floor;
                four[i] = is_entered[i] ? weight_of(weights, logits[i]) : 0;
                heaviest = fmaxf(heaviest, four[i]);
            }
            // No unit point is below 2⁻³³: light tokens lose without a random number.
            if (race.least * heaviest < 0x1p-34f || heaviest == 0) return;
            const uint4 words = race.words(first);
#pragma unroll
            for (int i = 0; i < 4; i++) if (is_entered[i]) race.enter(first + i, four[i], word_at(words, i));
        });
    }
    return static_cast<int>(block_min(race.winner, w) & 0xFFFFFFFF);
}

APUS_DEVICE int choose(
    const token_row &row, selection_workspace &w, uint64_t own, uint64_t best, const cuda_sampling_row *p) {
    const float temperature = fminf(p->temperature, 1e30f);
    const softmax_weights weights = {logit_of(best), 1.0f / temperature};
    const kept_tokens kept = filter(row, w, own, best, weights, temperature, p);
    return draw(row, w, kept, weights, p);
}

}  // namespace

APUS_KERNEL(sample, cuda_sample_arguments, SAMPLE_THREADS, 1) {
    __shared__ selection_workspace w;
    const cuda_sampling_row *p = at<const cuda_sampling_row>(a.rows, blockIdx.x);
    cuda_sampling_result *result = at<cuda_sampling_result>(a.results, blockIdx.x);
    const float *logits = at<const float>(a.logits, static_cast<int64_t>(blockIdx.x) * a.vocab);
    const bool is_aligned = a.vocab % 4 == 0 && a.logits % 16 == 0;
    const token_row raw = {logits, nullptr, a.vocab, is_aligned};
    const float *choice = p->choice != 0 ? at<const float>(p->choice) : logits;
    const token_row row = {choice, at<const uint32_t>(p->mask), a.vocab, is_aligned && p->choice % 16 == 0};
    const row_summary own = summarize(row, raw);
    const uint64_t best = block_max(own.best, w), best_raw = block_max(own.best_raw, w);
    const bool has_nan = block_max(own.has_nan ? 1 : 0, w) != 0;
    const float most = 0x1.fffffep127f;
    const bool is_finite = !has_nan && fabsf(logit_of(best)) <= most && fabsf(logit_of(best_raw)) <= most;

    int token = 0;
    float logprob = 0;
    if (is_finite) {
        const bool is_greedy = !(p->temperature >= LEAST_TEMPERATURE) || p->top_k == 1;
        token = p->scored_token >= 0 && p->scored_token < a.vocab ? p->scored_token
            : is_greedy                                             ? token_of(best)
                                                                    : choose(row, w, own.best, best, p);
        if (p->alternatives >= 0) {
            const float log_sum = log_of_sum(raw, logit_of(best_raw), w);
            logprob = (logits[token] - logit_of(best_raw)) - log_sum;
            const int count = min(min(p->alternatives, static_cast<int>(CUDA_MAX_ALTERNATIVES)), a.vocab);
            if (count > 0) report_alternatives(raw, w, own.best_raw, best_raw, count, log_sum, result);
        }
    }
    if (threadIdx.x != 0) return;
    result->token = token;
    result->logprob = logprob;
    result->is_finite = is_finite ? 1 : 0;
    if (a.samples != 0) at<int32_t>(a.samples)[blockIdx.x] = token;
}

/// Of rows that a product left ranks of, all of them greedy: what `sample` would choose from their logits.
APUS_KERNEL(sample_greedily, cuda_sample_greedily_arguments, ROW_THREADS, 4) {
    __shared__ uint64_t of_warps[ROW_WARPS];
    const uint64_t *const ranks = at<const uint64_t>(a.ranks, static_cast<int64_t>(blockIdx.x) * a.tile_count);
    uint64_t best = 0;
#pragma unroll 8
    for (int tile = static_cast<int>(threadIdx.x); tile < a.tile_count; tile += ROW_THREADS) {
        best = higher_rank(best, ranks[tile]);
    }
#pragma unroll
    for (int mask = 16; mask > 0; mask /= 2) best = higher_rank(best, shuffle_xor(best, mask));
    if (lane_index() == 0) of_warps[warp_index()] = best;
    block_sync();
    if (threadIdx.x != 0) return;
    for (int warp = 1; warp < ROW_WARPS; warp++) best = higher_rank(best, of_warps[warp]);
    const bool is_finite = best != RANK_OF_NAN && fabsf(logit_of(best)) <= 0x1.fffffep127f;
    const int token = is_finite ? token_of(best) : 0;
    cuda_sampling_result *const result = at<cuda_sampling_result>(a.results, blockIdx.x);
    result->token = token;
    result->logprob = 0;
    result->is_finite = is_finite ? 1 : 0;
    if (a.samples != 0) at<int32_t>(a.samples)[blockIdx.x] = token;
}
