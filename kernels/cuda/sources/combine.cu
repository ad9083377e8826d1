// Sum or product of up to eight tensors of one shape, or difference or quotient of two; activation fused.
// Access: each thread takes one 16-byte vector of every tensor, neighbours side by side; the last one takes what is
// left.
// Options: ELEMENT, VECTOR (16 bytes), INPUTS (1 to 8), OPERATION, ACTIVATION.
#include "element.cuh"

// No __restrict__: beyond eight tensors, the output so far is the first input of the next launch.
extern "C" __global__ void combine(const Element* in0, const Element* in1, const Element* in2, const Element* in3,
                                   const Element* in4, const Element* in5, const Element* in6, const Element* in7,
                                   Element* out, unsigned count, unsigned channels, unsigned out_pitch) {
    const Element* const inputs[8] = {in0, in1, in2, in3, in4, in5, in6, in7};
    const unsigned first = (blockIdx.x * blockDim.x + threadIdx.x) * VECTOR;
    if (first >= count) return;
    if (count - first >= VECTOR) {
        float values[INPUTS][VECTOR];
#pragma unroll
        for (int k = 0; k < INPUTS; ++k) load(inputs[k] + first, values[k]);
#pragma unroll
        for (int k = 1; k < INPUTS; ++k)
#pragma unroll
            for (int i = 0; i < VECTOR; ++i) values[0][i] = combined<OPERATION>(values[0][i], values[k][i]);
        activate<ACTIVATION>(values[0]);
        store(out + spread(first, channels, out_pitch), values[0]);
        return;
    }
    for (unsigned at = first; at < count; ++at) {
        float value[1] = {to_float(inputs[0][at])};
#pragma unroll
        for (int k = 1; k < INPUTS; ++k) value[0] = combined<OPERATION>(value[0], to_float(inputs[k][at]));
        activate<ACTIVATION>(value);
        store(out + spread(at, channels, out_pitch), value);
    }
}
