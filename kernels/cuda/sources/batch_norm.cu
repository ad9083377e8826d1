// Batch norm at inference, activation fused: (x - mean) / sqrt(variance + eps) * weight + bias for each channel.
// Access: each thread takes one vector of channels, neighbours side by side; the parameters stay in the cache.
// Options: ELEMENT, VECTOR, ACTIVATION.
#include "element.cuh"

extern "C" __global__ void batch_norm(const Element* __restrict__ in, const Element* __restrict__ weight,
                                      const Element* __restrict__ bias, const Element* __restrict__ mean,
                                      const Element* __restrict__ variance, Element* __restrict__ out, unsigned count,
                                      int channels, float eps) {
    const unsigned first = (blockIdx.x * blockDim.x + threadIdx.x) * VECTOR;
    if (first >= count) return;
    const unsigned channel = first % channels;
    float x[VECTOR], w[VECTOR], b[VECTOR], m[VECTOR], v[VECTOR];
    load(in + first, x);
    load(weight + channel, w);
    load(bias + channel, b);
    load(mean + channel, m);
    load(variance + channel, v);
#pragma unroll
    for (int i = 0; i < VECTOR; ++i) x[i] = (x[i] - m[i]) / sqrtf(v[i] + eps) * w[i] + b[i];
    activate<ACTIVATION>(x);
    store(out + first, x);
}
