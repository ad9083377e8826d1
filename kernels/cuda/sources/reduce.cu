// Mean, sum, largest, smallest or norm along any axes, each side of which is up to four axes of the input.
// Access: blockDim.x outputs side by side, and blockDim.y threads that share the sum of each: where neighbours of the
// input belong to different outputs, 32 x 8, else 1 x 256; then a tree in shared memory.
// Options: ELEMENT, FUNCTION (in the order of the enum).
#include "element.cuh"

#define MOST_THREADS 256

enum Function { MEAN, SUM, MAX, MIN, NORM };

__device__ __forceinline__ float reduced(float a, float b) {
    if (FUNCTION == MAX) return larger(a, b);
    if (FUNCTION == MIN) return a < b || a != a ? a : b;
    return a + b;
}

// Sizes are those of all axes but the first.
struct Axes {
    unsigned size1, size2, size3, stride0, stride1, stride2, stride3;

    __device__ __forceinline__ unsigned offset(unsigned index) const {
        const unsigned i3 = index % size3, i2 = index / size3 % size2, i1 = index / size3 / size2 % size1;
        return index / size3 / size2 / size1 * stride0 + i1 * stride1 + i2 * stride2 + i3 * stride3;
    }
};

extern "C" __global__ void reduce(const Element* __restrict__ in, Element* __restrict__ out, unsigned outputs,
                                  unsigned length, int kept1, int kept2, int kept3, int kept_stride0, int kept_stride1,
                                  int kept_stride2, int kept_stride3, int gone1, int gone2, int gone3, int gone_stride0,
                                  int gone_stride1, int gone_stride2, int gone_stride3) {
    __shared__ float partial[MOST_THREADS];
    const Axes kept = {(unsigned)kept1,        (unsigned)kept2,        (unsigned)kept3,       (unsigned)kept_stride0,
                       (unsigned)kept_stride1, (unsigned)kept_stride2, (unsigned)kept_stride3};
    const Axes gone = {(unsigned)gone1,        (unsigned)gone2,        (unsigned)gone3,       (unsigned)gone_stride0,
                       (unsigned)gone_stride1, (unsigned)gone_stride2, (unsigned)gone_stride3};
    const unsigned output = blockIdx.x * blockDim.x + threadIdx.x;
    float result = FUNCTION == MAX ? LOWEST : FUNCTION == MIN ? -LOWEST : 0.0f;
    if (output < outputs) {
        const Element* const from = in + kept.offset(output);
        for (unsigned i = threadIdx.y; i < length; i += blockDim.y) {
            const float x = to_float(from[gone.offset(i)]);
            result = reduced(FUNCTION == NORM ? x * x : x, result);
        }
    }
    float* const mine = partial + threadIdx.y * blockDim.x + threadIdx.x;
    *mine = result;
    for (unsigned half = blockDim.y / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.y < half) *mine = reduced(mine[half * blockDim.x], *mine);
    }
    if (threadIdx.y != 0 || output >= outputs) return;
    result = *mine;
    from_float(FUNCTION == MEAN ? result / (float)length : FUNCTION == NORM ? sqrtf(result) : result, out[output]);
}
