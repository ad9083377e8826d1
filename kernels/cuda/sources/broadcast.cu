// Two tensors that broadcast, combined by an operation, activation fused; four axes, the innermost last.
// Access: a thread takes one vector of the output, neighbours side by side; an axis of size 1 has stride 0.
// Options: ELEMENT, VECTOR (above 1 only where innermost strides are 0 or 1), OPERATION, ACTIVATION.
#include "element.cuh"

__device__ __forceinline__ void fetch(const Element* from, int innermost, float (&to)[VECTOR]) {
    if (innermost) {
        load(from, to);
        return;
    }
    const float value = to_float(*from);
#pragma unroll
    for (int i = 0; i < VECTOR; ++i) to[i] = value;
}

// No __restrict__: with more than two tensors, the output so far is the first input of the next launch.
extern "C" __global__ void broadcast(const Element* a, const Element* b, Element* out, int size0, int size1, int size2,
                                     int size3, int a0, int a1, int a2, int a3, int b0, int b1, int b2, int b3) {
    const unsigned vectors = size3 / VECTOR;
    const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= vectors * size2 * size1 * size0) return;
    const unsigned i3 = index % vectors * VECTOR, row = index / vectors;
    const unsigned i2 = row % size2, i1 = row / size2 % size1, i0 = row / size2 / size1;
    float x[VECTOR], y[VECTOR];
    fetch(a + (i0 * a0 + i1 * a1 + i2 * a2 + i3 * a3), a3, x);
    fetch(b + (i0 * b0 + i1 * b1 + i2 * b2 + i3 * b3), b3, y);
#pragma unroll
    for (int i = 0; i < VECTOR; ++i) x[i] = combined<OPERATION>(x[i], y[i]);
    activate<ACTIVATION>(x);
    store(out + index * VECTOR, x);
}
