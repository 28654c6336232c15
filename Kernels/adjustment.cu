// Math:    x += bias; x = x > 0 ? x / r : x · r where seen; x −= frequency · times generated; x −= presence where
//          generated; x = −∞ where an allow-list does not name the token.
// Shapes:  logits, output [vocab] f32 for each row that is adjusted; lists of tokens, each named once.
// Launch:  a block per row: copies it, then visits the listed tokens.
// Bound:   bytes of the row, read and written once.
// Checked: the conformance cases of sampling, against a scalar reference
// Source:  order and meaning of the penalties: vLLM

#include "cuda/device.cuh"
#include "cuda/rows.h"

APUS_KERNEL(adjust_logits, cuda_adjust_logits_arguments, ADJUST_THREADS, 2) {
    const cuda_logit_adjustment *p = at<const cuda_logit_adjustment>(a.rows, blockIdx.x);
    const float *logits = at<const float>(p->logits);
    float *output = at<float>(p->output);
    const bool allows_all = p->allowed_count < 0;
    for (int i = threadIdx.x; i < a.vocab; i += ADJUST_THREADS) {
        // A NaN stays, so that the row is known for what it is.
        output[i] = allows_all || logits[i] != logits[i] ? logits[i] : __uint_as_float(0xFF800000);
    }
    block_sync();
    const int32_t *allowed = at<const int32_t>(p->allowed);
    for (int i = threadIdx.x; i < p->allowed_count; i += ADJUST_THREADS) output[allowed[i]] = logits[allowed[i]];
    block_sync();
    const cuda_token_bias *biases = at<const cuda_token_bias>(p->biases);
    for (int i = threadIdx.x; i < p->bias_count; i += ADJUST_THREADS) output[biases[i].token] += biases[i].bias;
    block_sync();
    const cuda_token_count *counts = at<const cuda_token_count>(p->counts);
    for (int i = threadIdx.x; i < p->count_count; i += ADJUST_THREADS) {
        const cuda_token_count seen = counts[i];
        float x = output[seen.token];
        if (seen.generated > 0 || seen.is_in_prompt != 0) {
            x = x > 0 ? x / p->repetition_penalty : x * p->repetition_penalty;
        }
        x -= p->frequency_penalty * static_cast<float>(seen.generated);
        if (seen.generated > 0) x -= p->presence_penalty;
        output[seen.token] = x;
    }
}
