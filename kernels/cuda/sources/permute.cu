// Elements in another order, bits untouched: the output in order, the input by up to six strides (0: the same again).
// Access: writes side by side, one vector each; reads as far apart as the innermost stride says.
// Options: ELEMENT, VECTOR (above 1 only where the innermost stride is 1).
#include "element.cuh"

typedef Pack<Element, VECTOR> Vector;

extern "C" __global__ void permute(const Element* __restrict__ in, Element* __restrict__ out, unsigned count, int size1,
                                   int size2, int size3, int size4, int size5, int stride0, int stride1, int stride2,
                                   int stride3, int stride4, int stride5) {
    const unsigned at = (blockIdx.x * blockDim.x + threadIdx.x) * VECTOR;
    if (at >= count) return;
    const unsigned sizes[5] = {(unsigned)size1, (unsigned)size2, (unsigned)size3, (unsigned)size4, (unsigned)size5};
    const unsigned strides[6] = {(unsigned)stride0, (unsigned)stride1, (unsigned)stride2,
                                 (unsigned)stride3, (unsigned)stride4, (unsigned)stride5};
    unsigned rest = at, from = 0;
#pragma unroll
    for (int axis = 5; axis > 0; --axis) {
        from += rest % sizes[axis - 1] * strides[axis];
        rest /= sizes[axis - 1];
    }
    from += rest * strides[0];
    *reinterpret_cast<Vector*>(out + at) = *reinterpret_cast<const Vector*>(in + from);
}
