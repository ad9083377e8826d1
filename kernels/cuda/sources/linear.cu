// A linear layer for few rows: bound by reading the weights, so each is read once for BATCH rows of the input.
// Access: a warp makes one output feature; its lanes read neighbouring vectors of that feature's weights.
// Options: ELEMENT, VECTOR (divides the features), BATCH, ACTIVATION. Block: 32 x features of a block. Grid: features,
// batch / BATCH.
#include "element.cuh"
#include "reduce.cuh"

extern "C" __global__ void linear(const Element* __restrict__ in, const Element* __restrict__ weight,
                                  const Element* __restrict__ bias, Element* __restrict__ out, int batch, int features,
                                  int out_features) {
    const int feature = blockIdx.x * blockDim.y + threadIdx.y, first = blockIdx.y * BATCH;
    if (feature >= out_features) return;  // whole warps only
    float sum[BATCH] = {}, w[VECTOR], x[VECTOR];
#pragma unroll 4
    for (int k = threadIdx.x * VECTOR; k < features; k += 32 * VECTOR) {
        load(weight + feature * features + k, w);
#pragma unroll
        for (int b = 0; b < BATCH; ++b) {
            if (first + b >= batch) break;
            load(in + (first + b) * features + k, x);
#pragma unroll
            for (int i = 0; i < VECTOR; ++i) sum[b] = fmaf(x[i], w[i], sum[b]);
        }
    }
#pragma unroll
    for (int b = 0; b < BATCH; ++b) {
        float value[1] = {warp_reduce(sum[b], [](float p, float q) { return p + q; })};
        if (threadIdx.x != 0 || first + b >= batch) continue;
        if (bias) value[0] += to_float(bias[feature]);
        activate<ACTIVATION>(value);
        store(out + (first + b) * out_features + feature, value);
    }
}
