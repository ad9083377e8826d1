// Concatenation and slices of channels: copies between tensors of different pitch, bits untouched.
// Access: threads go through the output (concat) or the slice in order, one vector each: writes side by side.
// Options: ELEMENT, VECTOR (divides every count of channels), INPUTS (1 to 8, of concat).
#include "element.cuh"

typedef Pack<Element, VECTOR> Vector;

__device__ __forceinline__ void copy(const Element* from, Element* to) {
    *reinterpret_cast<Vector*>(to) = *reinterpret_cast<const Vector*>(from);
}

// pitch: elements between two pixels of the output, at least the sum of the channels.
extern "C" __global__ void concat(const Element* __restrict__ in0, const Element* __restrict__ in1,
                                  const Element* __restrict__ in2, const Element* __restrict__ in3,
                                  const Element* __restrict__ in4, const Element* __restrict__ in5,
                                  const Element* __restrict__ in6, const Element* __restrict__ in7, int channels0,
                                  int channels1, int channels2, int channels3, int channels4, int channels5,
                                  int channels6, int channels7, Element* __restrict__ out, unsigned pixels, int pitch) {
    const Element* const inputs[8] = {in0, in1, in2, in3, in4, in5, in6, in7};
    const int channels[8] = {channels0, channels1, channels2, channels3, channels4, channels5, channels6, channels7};
    unsigned total = 0;
#pragma unroll
    for (int k = 0; k < INPUTS; ++k) total += channels[k];
    const unsigned vectors = total / VECTOR, index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= pixels * vectors) return;
    const unsigned pixel = index / vectors;
    const int channel = index % vectors * VECTOR;
    int begin = 0;
#pragma unroll
    for (int k = 0; k < INPUTS; ++k) {
        if (channel >= begin && channel < begin + channels[k])
            copy(inputs[k] + pixel * channels[k] + (channel - begin), out + pixel * pitch + channel);
        begin += channels[k];
    }
}

// The first `channels` channels from where the input pointer stands.
extern "C" __global__ void slice(const Element* __restrict__ in, Element* __restrict__ out, unsigned pixels,
                                 int channels, int in_pitch, int out_pitch) {
    const unsigned vectors = channels / VECTOR, index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= pixels * vectors) return;
    const unsigned pixel = index / vectors, channel = index % vectors * VECTOR;
    copy(in + pixel * in_pitch + channel, out + pixel * out_pitch + channel);
}
