// Concatenation and slices, along any axis: copies between tensors of different pitch, bits untouched. For images whose
// channels are concatenated a row is a pixel; else it is all that lies together.
// Access: threads go through the output (concat) or the slice in order, one vector each: writes side by side.
// Options: ELEMENT, VECTOR (divides every length and pitch), INPUTS (1 to 8, of concat).
#include "element.cuh"

typedef Pack<Element, VECTOR> Vector;

__device__ __forceinline__ void copy(const Element* from, Element* to) {
    *reinterpret_cast<Vector*>(to) = *reinterpret_cast<const Vector*>(from);
}

// pitch: elements between two rows of the output, at least the sum of the lengths.
extern "C" __global__ void concat(const Element* __restrict__ in0, const Element* __restrict__ in1,
                                  const Element* __restrict__ in2, const Element* __restrict__ in3,
                                  const Element* __restrict__ in4, const Element* __restrict__ in5,
                                  const Element* __restrict__ in6, const Element* __restrict__ in7, int length0,
                                  int length1, int length2, int length3, int length4, int length5,
                                  int length6, int length7, Element* __restrict__ out, unsigned rows, int pitch) {
    const Element* const inputs[8] = {in0, in1, in2, in3, in4, in5, in6, in7};
    const int lengths[8] = {length0, length1, length2, length3, length4, length5, length6, length7};
    unsigned total = 0;
#pragma unroll
    for (int k = 0; k < INPUTS; ++k) total += lengths[k];
    const unsigned vectors = total / VECTOR, index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= rows * vectors) return;
    const unsigned row = index / vectors;
    const int place = index % vectors * VECTOR;
    int begin = 0;
#pragma unroll
    for (int k = 0; k < INPUTS; ++k) {
        if (place >= begin && place < begin + lengths[k])
            copy(inputs[k] + row * lengths[k] + (place - begin), out + row * pitch + place);
        begin += lengths[k];
    }
}

// Rows of `length` from where the input pointer stands: `count` of them `step` apart, and again after each `pitch`; to
// rows that are `out_pitch` apart.
extern "C" __global__ void slice(const Element* __restrict__ in, Element* __restrict__ out, unsigned rows, int length,
                                 int count, int step, int pitch, int out_pitch) {
    const unsigned vectors = length / VECTOR, index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= rows * vectors) return;
    const unsigned row = index / vectors, at = index % vectors * VECTOR;
    copy(in + row / count * pitch + row % count * step + at, out + row * out_pitch + at);
}
