// Math:    greedy: argmax. Otherwise p = softmax(x / temperature), then min-p, top-k and top-p in that order, then a
//          draw by inverting the cumulative distribution in order of token id at a point given by (seed, position).
//          Log-probabilities are those of softmax(x), whatever the parameters. Penalties, biases, bans and a mask come
//          first, on a copy of the row.
// Shapes:  logits [rows, vocab] f32.
// Launch:  threads take rows. No sort: a bound that no kept token can miss leaves a short list of candidates, and of
//          these only the bucket of a histogram in which the filter's limit falls is sorted. Equal logits rank by id.
// Bound:   bytes of logits, read up to four times.
// Checked: SamplingTests (χ², sets against a sort, Philox against published vectors)
// Source:  Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3" (2011); order of filters: vLLM

#ifndef ISA

#include <math.h>

#include "sampling_candidates.h"

/// Temperatures below this choose the most likely token.
#define LEAST_TEMPERATURE 1e-5f

typedef struct {
    const float *logits;
    int64_t rows;
    int64_t vocab;
    const cpu_sampling_row *parameters;
    const cpu_logit_adjustments *adjustments;
    const cpu_sampling_results *results;
    uint8_t *workspaces;
    int64_t workspace_stride;
    work_counter next;
} sample_arguments;

void cpu_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t output[4]) {
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3], k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t product0 = (uint64_t)0xD2511F53 * c0, product1 = (uint64_t)0xCD9E8D57 * c2;
        uint32_t next0 = (uint32_t)(product1 >> 32) ^ c1 ^ k0, next2 = (uint32_t)(product0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)product1;
        c3 = (uint32_t)product0;
        c0 = next0;
        c2 = next2;
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    output[0] = c0;
    output[1] = c1;
    output[2] = c2;
    output[3] = c3;
}

/// A number in [0, 1) that depends on seed and position only.
static double uniform(uint64_t seed, uint64_t position) {
    uint32_t counter[4] = { (uint32_t)position, (uint32_t)(position >> 32), 0, 0 };
    uint32_t key[2] = { (uint32_t)seed, (uint32_t)(seed >> 32) };
    uint32_t words[4];
    cpu_philox(counter, key, words);
    return (double)(((uint64_t)words[1] << 32 | words[0]) >> 11) * 0x1p-53;
}

/// Changes a copy of the row as adjustment `index` says.
static void adjust(int64_t vocab, const cpu_logit_adjustments *all, int64_t index, float *adjusted) {
    const cpu_logit_adjustment *a = &all->rows[index];
    for (int64_t i = a->first_bias; i < a->first_bias + a->bias_count; i++) {
        adjusted[all->biases[i].token] += all->biases[i].bias;
    }
    for (int64_t i = a->first_count; i < a->first_count + a->count_count; i++) {
        cpu_token_count seen = all->counts[i];
        float x = adjusted[seen.token];
        x = x > 0 ? x / a->repetition_penalty : x * a->repetition_penalty;
        x -= a->frequency_penalty * (float)seen.generated;
        if (seen.generated > 0) x -= a->presence_penalty;
        adjusted[seen.token] = x;
    }
    if (a->allowed_count < 0) return;
    // The list is in rising order: everything between its tokens is ruled out.
    int64_t next = 0;
    for (int64_t i = a->first_allowed; i <= a->first_allowed + a->allowed_count; i++) {
        int64_t token = i < a->first_allowed + a->allowed_count ? all->allowed[i] : vocab;
        for (; next < token; next++) adjusted[next] = -__builtin_inff();
        next = token + 1;
    }
}

#define FAMILY "sampling.c"
#include "each_isa.h"

static const worker_task sample_tasks[CPU_ISA_COUNT] = EACH_ISA(sample_task);

bool cpu_sample(
    cpu_context *context, const float *logits, int64_t rows, int64_t vocab, const cpu_sampling_row *parameters,
    const cpu_logit_adjustments *adjustments, const cpu_sampling_results *results) {
    sample_arguments arguments = {
        .logits = logits, .rows = rows, .vocab = vocab, .parameters = parameters,
        .adjustments = adjustments, .results = results,
        .workspace_stride = sampling_bytes(vocab, adjustments != NULL),
    };
    int64_t threads = worker_pool_threads(context->pool);
    arguments.workspaces = scratch(context, SCRATCH_SAMPLING, (uint64_t)(threads * arguments.workspace_stride));
    if (arguments.workspaces == NULL) return false;
    if (rows <= 1) run_alone(context, sample_tasks[context->isa], &arguments);
    else run_on_available(context, sample_tasks[context->isa], &arguments);
    return true;
}

#else

#define find_highest NAME(find_highest)
#define copy_masked NAME(copy_masked)
#define log_of_sum NAME(log_of_sum)
#define fill_weights NAME(fill_weights)
#define list_alternatives NAME(list_alternatives)
#define sample_row NAME(sample_row)
#define sum_weights NAME(sum_weights)
#define list_candidates NAME(list_candidates)
#define bound_of_best NAME(bound_of_best)
#define choose NAME(choose)

/// Index of the highest logit (the lowest among equals), or −1 when the row holds a NaN or its highest is infinite.
static int64_t find_highest(const float *logits, int64_t vocab) {
    f32x16 highest = -__builtin_inff();
    s32x16 is_nan = 0;
    int64_t whole = vocab / 16 * 16;
    for (int64_t i = 0; i < whole; i += 16) {
        f32x16 x = *(const f32x16 *)(logits + i);
        is_nan |= x != x;
        highest = x > highest ? x : highest;
    }
    float result = max16(highest);
    bool has_nan = sum16((f32x16)(is_nan & 0x3F800000)) != 0;
    for (int64_t i = whole; i < vocab; i++) {
        has_nan |= logits[i] != logits[i];
        result = logits[i] > result ? logits[i] : result;
    }
    if (has_nan || !(__builtin_fabsf(result) < __builtin_inff())) return -1;
    for (int64_t i = 0; i < whole; i += 16) {
        s32x16 found = *(const f32x16 *)(logits + i) == result;
        if (sum16((f32x16)(found & 0x3F800000)) == 0) continue;
        for (int64_t j = i; j < i + 16; j++) if (logits[j] == result) return j;
    }
    for (int64_t i = whole; i < vocab; i++) if (logits[i] == result) return i;
    return -1;
}

/// Copies a row, −∞ in place of the tokens whose bit is 0. `output` may be the row itself.
static void copy_masked(const float *logits, int64_t vocab, const uint32_t *mask, float *output) {
    const s32x16 bits = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768};
    int64_t whole = vocab / 16 * 16;
    for (int64_t i = 0; i < whole; i += 16) {
        s32x16 word = (s32x16){0} + (int32_t)(mask[i / 32] >> i % 32 & 0xFFFF);
        f32x16 x = *(const f32x16 *)(logits + i);
        *(f32x16 *)(output + i) = (word & bits) != 0 ? x : (f32x16){0} - __builtin_inff();
    }
    for (int64_t i = whole; i < vocab; i++) {
        output[i] = (mask[i / 32] >> i % 32 & 1) != 0 ? logits[i] : -__builtin_inff();
    }
}

/// log Σ e^(x − highest).
static double log_of_sum(const float *logits, int64_t vocab, float highest) {
    double total = 0;
    int64_t whole = vocab / 16 * 16;
    for (int64_t from = 0; from < whole; from += 1024) {
        int64_t to = from + 1024 < whole ? from + 1024 : whole;
        f32x16 sums = 0.0f;
        for (int64_t i = from; i < to; i += 16) sums += exp16(*(const f32x16 *)(logits + i) - highest);
        total += sum16(sums);
    }
    for (int64_t i = whole; i < vocab; i++) total += exp16((f32x16)(logits[i] - highest))[0];
    return log(total);
}

/// weights = e^((x − highest) / temperature), 0 where less than `least`.
static void fill_weights(
    const float *logits, int64_t vocab, float highest, float inverse_temperature, float least, float *weights) {
    int64_t whole = vocab / 16 * 16;
    for (int64_t i = 0; i < whole; i += 16) {
        f32x16 weight = exp16((*(const f32x16 *)(logits + i) - highest) * inverse_temperature);
        *(f32x16 *)(weights + i) = weight >= least ? weight : (f32x16)0.0f;
    }
    for (int64_t i = whole; i < vocab; i++) {
        float weight = exp16((f32x16)((logits[i] - highest) * inverse_temperature))[0];
        weights[i] = weight >= least ? weight : 0.0f;
    }
}

/// The `count` most likely tokens, best first.
static void list_alternatives(const float *logits, int64_t vocab, int64_t count, int32_t *tokens) {
    int64_t found = 0;
    float least = -__builtin_inff();
    for (int64_t i = 0; i < vocab; i++) {
        if (found == count && i % 16 == 0 && i + 16 <= vocab) {
            s32x16 better = *(const f32x16 *)(logits + i) > least;
            if (sum16((f32x16)(better & 0x3F800000)) == 0) {
                i += 15;
                continue;
            }
        }
        if (found == count && !(logits[i] > least)) continue;
        // Ids come in rising order, so that an equal logit goes behind those already there.
        int64_t at = found < count ? found++ : count - 1;
        while (at > 0 && logits[i] > logits[tokens[at - 1]]) {
            tokens[at] = tokens[at - 1];
            at -= 1;
        }
        tokens[at] = (int32_t)i;
        if (found == count) least = logits[tokens[count - 1]];
    }
}

/// Fills the blocks' sums of the weights and returns the sum of all.
static double sum_weights(const sampling_workspace *w, int64_t vocab) {
    double total = 0;
    for (int64_t from = 0, block = 0; from < vocab; from += SUM_BLOCK, block++) {
        int64_t to = from + SUM_BLOCK < vocab ? from + SUM_BLOCK : vocab, i = from;
        f64x8 lanes = 0.0;
        for (; i + 8 <= to; i += 8) lanes += __builtin_convertvector(*(const f32x8 *)(w->weights + i), f64x8);
        double sum = ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) + ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]));
        for (; i < to; i++) sum += w->weights[i];
        w->sums[block] = sum;
        total += sum;
    }
    return total;
}

/// Lists, in order of id, the tokens of positive weight whose `values` are at least `least`.
static int64_t list_candidates(const sampling_workspace *w, const float *values, int64_t vocab, float least) {
    int64_t count = 0, i = 0;
    for (; i + 16 <= vocab; i += 16) {
        s32x16 found = *(const f32x16 *)(values + i) >= least;
        if (sum16((f32x16)(found & 0x3F800000)) == 0) continue;
        for (int64_t j = i; j < i + 16; j++) {
            if (values[j] >= least && w->weights[j] > 0) w->candidates[count++] = (int32_t)j;
        }
    }
    for (; i < vocab; i++) if (values[i] >= least && w->weights[i] > 0) w->candidates[count++] = (int32_t)i;
    return count;
}

/// A logit that at least `k` tokens reach: the k-th largest of the maxima of blocks.
static float bound_of_best(const sampling_workspace *w, const float *logits, int64_t vocab, int64_t k) {
    int64_t blocks = vocab / MAXIMUM_BLOCK;
    if (blocks < k) return -__builtin_inff();
    for (int64_t block = 0; block < blocks; block++) {
        const float *x = logits + block * MAXIMUM_BLOCK;
        f32x16 highest = *(const f32x16 *)x;
        for (int64_t i = 16; i < MAXIMUM_BLOCK; i += 16) {
            f32x16 value = *(const f32x16 *)(x + i);
            highest = value > highest ? value : highest;
        }
        w->maxima[block] = max16(highest);
    }
    return kth_largest(w->maxima, blocks, k);
}

static int64_t choose(
    const float *logits, int64_t vocab, int64_t best, const cpu_sampling_row *p, const sampling_workspace *w) {
    if (!(p->temperature >= LEAST_TEMPERATURE) || p->top_k == 1) return best;
    float inverse = 1.0f / p->temperature, highest = logits[best];
    double point = uniform(p->seed, p->position);
    bool has_top_k = p->top_k > 0 && p->top_k < vocab, has_top_p = p->top_p < 1;
    // The most likely token weighs 1, so min-p is a bound on the weight itself.
    float least = p->min_p > 0 ? (p->min_p < 1 ? p->min_p : 1) : 0;
    fill_weights(logits, vocab, highest, inverse, least, w->weights);
    if (!has_top_k && !has_top_p) return draw_token(w, vocab, sum_weights(w, vocab), point);
    int64_t count;
    double total = 0;
    if (has_top_k) {
        count = list_candidates(w, logits, vocab, bound_of_best(w, logits, vocab, p->top_k));
        count = keep_best(logits, count, highest, inverse, p->top_k, __builtin_inf(), w);
        for (int64_t i = 0; has_top_p && i < count; i++) total += w->weights[w->candidates[i]];
    } else {
        total = sum_weights(w, vocab);
        // All tokens below this weight together weigh less than what top-p leaves out.
        count = list_candidates(w, w->weights, vocab, (float)(0.99 * (1.0 - (double)p->top_p) * total / (double)vocab));
    }
    if (has_top_p) {
        // At least the most likely token is kept, even for 0.
        double mass = p->top_p > 0 ? (double)p->top_p * total : 0;
        count = keep_best(logits, count, highest, inverse, INT64_MAX, mass > 1e-30 ? mass : 1e-30, w);
    }
    return draw_candidate(w, count, point);
}

static void sample_row(const sample_arguments *a, int64_t row, const sampling_workspace *w) {
    const float *logits = a->logits + row * a->vocab;
    const cpu_sampling_row *p = &a->parameters[row];
    const cpu_sampling_results *results = a->results;
    int64_t best = find_highest(logits, a->vocab);
    results->is_finite[row] = best >= 0;
    results->tokens[row] = 0;
    results->logprobs[row] = 0;
    if (best < 0) return;
    int64_t token = p->scored;
    if (token < 0 && (p->adjustment >= 0 || p->mask >= 0)) {
        const float *source = logits;
        if (p->adjustment >= 0) {
            memcpy(w->adjusted, logits, (size_t)a->vocab * sizeof(float));
            adjust(a->vocab, a->adjustments, p->adjustment, w->adjusted);
            source = w->adjusted;
        }
        const int64_t words = (a->vocab + 31) / 32;
        if (p->mask >= 0) copy_masked(source, a->vocab, a->adjustments->masks + p->mask * words, w->adjusted);
        int64_t best_allowed = find_highest(w->adjusted, a->vocab);
        results->is_finite[row] = best_allowed >= 0;
        if (best_allowed < 0) return;
        token = choose(w->adjusted, a->vocab, best_allowed, p, w);
    } else if (token < 0) {
        token = choose(logits, a->vocab, best, p, w);
    } else {
        int32_t above = 0;
        for (int64_t i = 0; i < a->vocab; i++) above += logits[i] > logits[token];
        results->ranks[row] = above + 1;
    }
    results->tokens[row] = (int32_t)token;
    if (p->alternatives < 0) return;
    double log_sum = log_of_sum(logits, a->vocab, logits[best]);
    results->logprobs[row] = (float)((double)(logits[token] - logits[best]) - log_sum);
    int32_t *tokens = results->alternative_tokens + row * results->alternative_stride;
    float *logprobs = results->alternative_logprobs + row * results->alternative_stride;
    int64_t count = p->alternatives < results->alternative_stride ? p->alternatives : results->alternative_stride;
    if (count > a->vocab) count = a->vocab;
    if (count == 0) return;
    list_alternatives(logits, a->vocab, count, tokens);
    for (int64_t i = 0; i < count; i++) {
        logprobs[i] = (float)((double)(logits[tokens[i]] - logits[best]) - log_sum);
    }
}

static void NAME(sample_task)(void *arguments, const team *team, int worker) {
    (void)team;
    sample_arguments *a = arguments;
    sampling_workspace w = sampling_workspace_at(
        a->workspaces + worker * a->workspace_stride, a->vocab, a->adjustments != NULL);
    for (int64_t row = take_work(&a->next, 1); row < a->rows; row = take_work(&a->next, 1)) sample_row(a, row, &w);
}

#endif
