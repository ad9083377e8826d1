// Local response norm: x / (k + alpha / size * sum of squares over `size` channels around it) ^ beta.
// Access: a thread makes one element, neighbours side by side; the channels around it are in the cache.
// Options: ELEMENT.
#include "element.cuh"

extern "C" __global__ void response_norm(const Element* __restrict__ in, Element* __restrict__ out, unsigned count,
                                         int channels, int size, float alpha, float beta, float k) {
    const unsigned at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= count) return;
    const int channel = at % channels;
    const int first = max(channel - size / 2, 0), last = min(channel + (size - 1) / 2, channels - 1);
    float sum = 0.0f;
    for (int c = first; c <= last; ++c) {
        const float x = to_float(in[at - channel + c]);
        sum = fmaf(x, x, sum);
    }
    from_float(to_float(in[at]) / powf(k + alpha / (float)size * sum, beta), out[at]);
}
