// Softmax along one axis, or its logarithm: the largest value is subtracted first.
// Access: one block for each row; its threads go through the row together, `stride` elements apart (1: side by side).
// Options: ELEMENT, LOGARITHM (0 or 1). Block: whole warps. Grid: rows.
#include "element.cuh"
#include "reduce.cuh"

extern "C" __global__ void softmax(const Element* __restrict__ in, Element* __restrict__ out, int length, int stride) {
    __shared__ float partial[32];
    const unsigned first = blockIdx.x / stride * stride * length + blockIdx.x % stride;
    float most = LOWEST, sum = 0.0f;
    for (int i = threadIdx.x; i < length; i += blockDim.x) most = larger(to_float(in[first + i * stride]), most);
    most = block_reduce(most, partial, [](float a, float b) { return larger(a, b); });
    for (int i = threadIdx.x; i < length; i += blockDim.x) sum += expf(to_float(in[first + i * stride]) - most);
    sum = block_reduce(sum, partial, [](float a, float b) { return a + b; });
    for (int i = threadIdx.x; i < length; i += blockDim.x) {
        const float x = to_float(in[first + i * stride]) - most;
        from_float(LOGARITHM ? x - logf(sum) : expf(x) / sum, out[first + i * stride]);
    }
}
