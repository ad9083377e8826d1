// An activation by itself.
// Access: each thread takes one 16-byte vector, neighbours side by side; the last one takes what is left.
// Options: ELEMENT, VECTOR (16 bytes), ACTIVATION.
#include "element.cuh"

extern "C" __global__ void activation(const Element* __restrict__ in, Element* __restrict__ out, unsigned count,
                                      float parameter, unsigned channels, unsigned out_pitch) {
    const unsigned first = (blockIdx.x * blockDim.x + threadIdx.x) * VECTOR;
    if (first >= count) return;
    if (count - first >= VECTOR) {
        float values[VECTOR];
        load(in + first, values);
        activate<ACTIVATION>(values, parameter);
        store(out + spread(first, channels, out_pitch), values);
        return;
    }
    for (unsigned at = first; at < count; ++at) {
        float value[1] = {to_float(in[at])};
        activate<ACTIVATION>(value, parameter);
        store(out + spread(at, channels, out_pitch), value);
    }
}
