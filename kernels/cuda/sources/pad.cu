// Padding by a constant, by reflection or by the edge; negative amounts crop.
// Access: a thread makes one vector of channels of one output pixel; neighbours read neighbouring channels.
// Options: ELEMENT, VECTOR.
#include "element.cuh"

enum Mode { CONSTANT, REFLECT, REPLICATE };

// The source of an index that may lie outside of 0..size-1, or -1 for the constant.
__device__ __forceinline__ int source(int index, int size, int mode) {
    if (mode == REFLECT) return index < 0 ? -index : index >= size ? 2 * (size - 1) - index : index;
    if (mode == REPLICATE) return min(max(index, 0), size - 1);
    return index < 0 || index >= size ? -1 : index;
}

extern "C" __global__ void pad(const Element* __restrict__ in, Element* __restrict__ out, int batch, int height,
                               int width, int channels, int out_height, int out_width, int left, int top, int mode,
                               float value) {
    const unsigned vectors = channels / VECTOR, index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= vectors * out_width * out_height * batch) return;
    const unsigned channel = index % vectors * VECTOR, pixel = index / vectors;
    const int x = source((int)(pixel % out_width) - left, width, mode);
    const int y = source((int)(pixel / out_width % out_height) - top, height, mode);
    const int image = pixel / out_width / out_height;
    float result[VECTOR];
    if (x < 0 || y < 0) {
#pragma unroll
        for (int i = 0; i < VECTOR; ++i) result[i] = value;
    } else {
        load(in + ((image * height + y) * width + x) * channels + channel, result);
    }
    store(out + pixel * channels + channel, result);
}
