// Resizing to a given size, nearest or bilinear, with PyTorch's coordinates.
// Access: a thread makes one vector of channels of one output pixel; neighbours read neighbouring channels.
// Options: ELEMENT, VECTOR, BILINEAR (0 or 1).
#include "element.cuh"

struct Position {
    int low, high;
    float share;  // of `high`
};

// Nearest: PyTorch multiplies by the scale in float, and which pixel that rounds to is part of the definition.
// Bilinear: the position is a fraction of integers, so nothing is lost before the division.
__device__ __forceinline__ Position position(unsigned index, int size, int out_size, float scale, int align_corners) {
#if BILINEAR
    unsigned numerator, denominator;
    if (align_corners) {
        numerator = out_size > 1 ? index * (size - 1) : 0;
        denominator = out_size > 1 ? out_size - 1 : 1;
    } else {
        const unsigned centre = (2 * index + 1) * size;
        numerator = centre > out_size ? centre - out_size : 0;
        denominator = 2 * out_size;
    }
    const int low = min((int)(numerator / denominator), size - 1);
    return {low, min(low + 1, size - 1), (float)(numerator % denominator) / (float)denominator};
#else
    const int low = min((int)floorf(index * scale), size - 1);
    return {low, low, 0.0f};
#endif
}

extern "C" __global__ void resize(const Element* __restrict__ in, Element* __restrict__ out, int batch, int height,
                                  int width, int channels, int out_height, int out_width, float scale_h, float scale_w,
                                  int align_corners, int out_pitch) {
    const unsigned vectors = channels / VECTOR, index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= vectors * out_width * out_height * batch) return;
    const unsigned channel = index % vectors * VECTOR, pixel = index / vectors;
    const Position x = position(pixel % out_width, width, out_width, scale_w, align_corners);
    const Position y = position(pixel / out_width % out_height, height, out_height, scale_h, align_corners);
    const Element* const image = in + pixel / out_width / out_height * height * width * channels + channel;
    float result[VECTOR];
    load(image + (y.low * width + x.low) * channels, result);
#if BILINEAR
    float right[VECTOR], below[VECTOR], corner[VECTOR];
    load(image + (y.low * width + x.high) * channels, right);
    load(image + (y.high * width + x.low) * channels, below);
    load(image + (y.high * width + x.high) * channels, corner);
#pragma unroll
    for (int i = 0; i < VECTOR; ++i) {
        const float upper = result[i] * (1.0f - x.share) + right[i] * x.share;
        const float lower = below[i] * (1.0f - x.share) + corner[i] * x.share;
        result[i] = upper * (1.0f - y.share) + lower * y.share;
    }
#endif
    store(out + pixel * out_pitch + channel, result);
}
