// Math:    output[t] += Σ_e p_e · (down_e · gate(gate_up_e · x[t])) over the `used` experts of the highest logits, with
//          p = softmax over all experts, made to add up to 1 over those used where the model asks for it.
// Shapes:  x, output [rows, hidden]; logits [rows, experts]; f32.
// Launch:  rows are sorted by expert; each expert multiplies its own, gathered, as one matrix. Results are added up
//          row by row, the likeliest expert first, so that a row's bits do not depend on who else is there.
// Bound:   bytes of the weights of the experts that are used; multiply-adds of long prompts.
// Checked: ExpertTests
// Source:  Shazeer et al., "Outrageously Large Neural Networks" (2017); Mixtral (arXiv 2401.04088)

#include <math.h>

#include "kernels.h"

/// One row's way through one expert.
typedef struct {
    int32_t expert;
    float weight;
} route;

/// Chooses the experts of a row, the likeliest first; of equals the one that comes first.
static void route_row(const cpu_experts *experts, const float *logits, route *routes) {
    double total = 0, used = 0;
    float highest = logits[0];
    for (int64_t e = 1; e < experts->count; e++) highest = logits[e] > highest ? logits[e] : highest;
    for (int64_t e = 0; e < experts->count; e++) total += exp((double)(logits[e] - highest));
    for (int64_t i = 0; i < experts->used; i++) {
        int64_t best = -1;
        for (int64_t e = 0; e < experts->count; e++) {
            bool is_taken = false;
            for (int64_t j = 0; j < i; j++) is_taken |= routes[j].expert == e;
            if (!is_taken && (best < 0 || logits[e] > logits[best])) best = e;
        }
        routes[i] = (route){ (int32_t)best, (float)(exp((double)(logits[best] - highest)) / total) };
        used += exp((double)(logits[best] - highest)) / total;
    }
    for (int64_t i = 0; experts->is_normalized && i < experts->used; i++) {
        routes[i].weight = (float)((double)routes[i].weight / used);
    }
}

/// Where the experts' work happens, for `rows` rows.
typedef struct {
    /// [rows, hidden], [rows, 2 × ffn], [rows, ffn], [rows, hidden]: the rows of one expert on their way.
    float *x;
    float *gate_up;
    float *gated;
    float *y;
    /// [rows, used, hidden] what each route gave.
    float *results;
} expert_memory;

static bool find_memory(cpu_context *context, const cpu_experts *experts, int64_t rows, expert_memory *memory) {
    int64_t hidden = round_up(experts->hidden, 16), ffn = round_up(experts->ffn, 16);
    int64_t floats = rows * (2 * hidden + 3 * ffn + experts->used * hidden);
    float *base = scratch(context, SCRATCH_EXPERTS, (uint64_t)floats * sizeof(float));
    if (base == NULL) return false;
    memory->x = base;
    memory->y = memory->x + rows * hidden;
    memory->gate_up = memory->y + rows * hidden;
    memory->gated = memory->gate_up + rows * 2 * ffn;
    memory->results = memory->gated + rows * ffn;
    return true;
}

/// Takes `rows` rows through one expert: from memory->x to memory->y.
static bool run_expert(
    cpu_context *context, const cpu_experts *experts, int64_t expert, int64_t rows, const expert_memory *memory) {
    int64_t hidden = experts->hidden, ffn = experts->ffn;
    const cpu_weight *gate_up = &experts->gate_up[expert], *down = &experts->down[expert];
    if (!cpu_linear(context, memory->x, rows, hidden, gate_up, memory->gate_up, 2 * ffn, false)) return false;
    if (experts->gate_up_bias != NULL) {
        const float *bias = experts->gate_up_bias + expert * 2 * ffn;
        cpu_add_bias(context, memory->gate_up, rows, 2 * ffn, bias, 2 * ffn);
    }
    cpu_gate_by(context, experts->gate, experts->limit, memory->gate_up, rows, ffn, memory->gated);
    if (!cpu_linear(context, memory->gated, rows, ffn, down, memory->y, hidden, false)) return false;
    if (experts->down_bias != NULL) {
        cpu_add_bias(context, memory->y, rows, hidden, experts->down_bias + expert * hidden, hidden);
    }
    return true;
}

bool cpu_mix_experts(
    cpu_context *context, const cpu_experts *experts, const float *x, const float *logits, int64_t rows,
    float *output) {
    // Which rows meet in an expert is known only now, so this and what follows of the step runs at once.
    run_recorded(context);
    if (rows == 0) return true;
    int64_t hidden = experts->hidden, used = experts->used;
    expert_memory memory;
    if (!find_memory(context, experts, rows, &memory)) return false;
    route *routes = scratch(context, SCRATCH_ROUTES, (uint64_t)(rows * used) * sizeof(route));
    if (routes == NULL) return false;
    for (int64_t t = 0; t < rows; t++) route_row(experts, logits + t * experts->count, routes + t * used);
    for (int64_t e = 0; e < experts->count; e++) {
        int64_t count = 0;
        for (int64_t i = 0; i < rows * used; i++) {
            if (routes[i].expert != e) continue;
            memcpy(memory.x + count * hidden, x + i / used * hidden, (size_t)hidden * sizeof(float));
            count += 1;
        }
        if (count == 0) continue;
        if (!run_expert(context, experts, e, count, &memory)) return false;
        count = 0;
        for (int64_t i = 0; i < rows * used; i++) {
            if (routes[i].expert != e) continue;
            memcpy(memory.results + i * hidden, memory.y + count * hidden, (size_t)hidden * sizeof(float));
            count += 1;
        }
    }
    for (int64_t t = 0; t < rows; t++) {
        for (int64_t k = 0; k < hidden; k++) {
            float sum = 0;
            for (int64_t i = t * used; i < (t + 1) * used; i++) sum += routes[i].weight * memory.results[i * hidden + k];
            output[t * hidden + k] += sum;
        }
    }
    return true;
}
