// Math:    in place: x · f; c · tanh(x / c); x + b of its column.
// Shapes:  x [rows, columns] f32; b [columns] f32.
// Launch:  grid (rows, runs of 256 columns); a thread takes an element.
// Bound:   bytes of x.
// Checked: ElementCases
// Source:  Gemma 2 (arXiv 2408.00118) for the soft cap.

#include "cuda/hyperbolic.cuh"
#include "cuda/rows.cuh"
#include "cuda/rows.h"

APUS_KERNEL(change_elements, cuda_change_elements_arguments, ROW_THREADS, 8) {
    const int column = static_cast<int>(blockIdx.y * ROW_THREADS + threadIdx.x);
    if (column >= a.columns) return;
    float &x = at<float>(a.x, static_cast<int64_t>(blockIdx.x) * a.columns)[column];
    switch (a.kind) {
    case CUDA_ELEMENT_MULTIPLY: x = x * a.number; break;
    case CUDA_ELEMENT_SOFT_CAP: x = hyperbolic_tangent(x / a.number) * a.number; break;
    default: x = x + at<const float>(a.bias)[column];
    }
}
