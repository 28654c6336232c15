// The arguments of the kernels that choose tokens: what is done to logits first, and how one is drawn. A part of
// CUDAKernels.h, which includes it.

#ifndef CUDA_KERNELS_SAMPLING_H
#define CUDA_KERNELS_SAMPLING_H

// MARK: Adjustments (adjustment.cu)

/// What is added to a token's logit; −∞ bans it.
typedef struct {
    int32_t token;
    float bias;
} cuda_token_bias;

/// How often a token was generated, and whether the prompt holds it.
typedef struct {
    int32_t token;
    int32_t generated;
    int32_t is_in_prompt;
} cuda_token_count;

/// What is done to one row of logits before choosing, in the order of the fields from `biases` on. Each list names a
/// token once.
typedef struct {
    cuda_address logits;  // [vocab] f32, left as it is
    cuda_address output;  // [vocab] f32
    cuda_address biases;  // [bias_count] cuda_token_bias
    cuda_address counts;  // [count_count] cuda_token_count
    cuda_address allowed;  // [allowed_count] i32
    int32_t bias_count;
    int32_t count_count;
    /// −1 allows every token.
    int32_t allowed_count;
    /// x > 0 ? x / r : x · r where prompt or output hold the token; 1 is off.
    float repetition_penalty;
    /// Times how often the token was generated.
    float frequency_penalty;
    float presence_penalty;
} cuda_logit_adjustment;

typedef struct {
    cuda_address rows;  // [row_count] cuda_logit_adjustment
    int32_t row_count;
    int32_t vocab;
} cuda_adjust_logits_arguments;
cuda_launch cuda_adjust_logits_launch(const cuda_adjust_logits_arguments *arguments);

// MARK: Sampling (sampling.cu)

enum { CUDA_MAX_ALTERNATIVES = 20 };

/// How to choose a token from one row of logits.
typedef struct {
    float temperature;
    float top_p;
    float min_p;
    int32_t top_k;
    /// Alternatives to report, or −1 for no log-probabilities.
    int32_t alternatives;
    /// Nothing is chosen but this token reported, or −1.
    int32_t scored_token;
    uint64_t seed;
    uint64_t position;
    /// [vocab / 32 rounded up] u32: bit i of word w allows token 32 w + i; 0 when all are allowed.
    cuda_address mask;
    /// [vocab] f32: what to choose from instead of the row, which log-probabilities stay those of; 0 for the row itself.
    cuda_address choice;
} cuda_sampling_row;

/// What was chosen; copied to the host as it is.
typedef struct {
    int32_t token;
    float logprob;
    /// 0 when the row held a NaN or no finite logit that the mask allows: nothing was chosen.
    int32_t is_finite;
    int32_t unused;
    int32_t alternative_tokens[CUDA_MAX_ALTERNATIVES];
    float alternative_logprobs[CUDA_MAX_ALTERNATIVES];
} cuda_sampling_result;

typedef struct {
    cuda_address logits;  // [rows, vocab] f32
    cuda_address rows;  // [rows] cuda_sampling_row
    cuda_address results;  // [rows] cuda_sampling_result
    cuda_address samples;  // [rows] i32: the tokens again, for the next step's embedding
    int32_t row_count;
    /// Up to 2¹⁹.
    int32_t vocab;
} cuda_sample_arguments;
cuda_launch cuda_sample_launch(const cuda_sample_arguments *arguments);

/// Chooses the likeliest token of each row by the ranks that a product left.
typedef struct {
    cuda_address ranks;  // [rows, tiles] u64
    cuda_address results;  // [rows] cuda_sampling_result, without log-probabilities
    cuda_address samples;  // [rows] i32
    int32_t row_count;
    int32_t tile_count;
} cuda_sample_greedily_arguments;
cuda_launch cuda_sample_greedily_launch(const cuda_sample_greedily_arguments *arguments);

#endif
