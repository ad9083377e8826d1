// Adds up the partial sums of a convolution whose k was split; bias, residual and activation fused.
// Access: a thread takes four neighbours of every part, neighbours side by side; always in the same order:
// deterministic.
// Options: ELEMENT, VECTOR (4 or 1, divides the channels), ACTIVATION.
#include "element.cuh"

extern "C" __global__ void split_sum(const float* __restrict__ partial, const Element* __restrict__ bias,
                                     const Element* __restrict__ residual, Element* __restrict__ out, unsigned count,
                                     int channels, int splits, int out_pitch) {
    const unsigned first = (blockIdx.x * blockDim.x + threadIdx.x) * VECTOR;
    if (first >= count) return;
    float sum[VECTOR] = {}, part[VECTOR];
    for (int split = 0; split < splits; ++split) {
        load(partial + split * count + first, part);
#pragma unroll
        for (int i = 0; i < VECTOR; ++i) sum[i] += part[i];
    }
    if (bias) {
        load(bias + first % channels, part);
#pragma unroll
        for (int i = 0; i < VECTOR; ++i) sum[i] += part[i];
    }
    if (residual) {
        load(residual + first, part);
#pragma unroll
        for (int i = 0; i < VECTOR; ++i) sum[i] += part[i];
    }
    activate<ACTIVATION>(sum);
    store(out + spread(first, channels, out_pitch), sum);
}
