// The kernels themselves, compiled as C++. `device.cuh` enters each into the emulator's list.

#include "../../Kernels/activation.cu"
#include "../../Kernels/adjustment.cu"
#include "../../Kernels/attention.cu"
#include "../../Kernels/elementwise.cu"
#include "../../Kernels/embedding.cu"
#include "../../Kernels/linear.cu"
#include "../../Kernels/linear_hopper.cu"
#include "../../Kernels/norm.cu"
#include "../../Kernels/prefill.cu"
#include "../../Kernels/rotary.cu"
#include "../../Kernels/sampling.cu"
#include "../../Kernels/stamp.cu"
