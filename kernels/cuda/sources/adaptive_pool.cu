// Adaptive pooling: output i covers rows floor(i * height / outputs) to ceil((i + 1) * height / outputs), columns
// alike.
// Access: a thread makes one vector of channels of one output pixel; neighbours read neighbouring channels.
// Options: ELEMENT, VECTOR, MAXIMUM (0 or 1).
#include "element.cuh"

extern "C" __global__ void adaptive_pool(const Element* __restrict__ in, Element* __restrict__ out, int batch,
                                         int height, int width, int channels, int out_height, int out_width) {
    const unsigned vectors = channels / VECTOR, index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= vectors * out_width * out_height * batch) return;
    const unsigned channel = index % vectors * VECTOR, pixel = index / vectors;
    const unsigned column = pixel % out_width, row = pixel / out_width % out_height;
    const unsigned image = pixel / out_width / out_height;
    const unsigned top = row * height / out_height, bottom = ((row + 1) * height + out_height - 1) / out_height;
    const unsigned left = column * width / out_width, right = ((column + 1) * width + out_width - 1) / out_width;
    float result[VECTOR], x[VECTOR];
#pragma unroll
    for (int i = 0; i < VECTOR; ++i) result[i] = MAXIMUM ? LOWEST : 0.0f;
    for (unsigned y = top; y < bottom; ++y)
        for (unsigned c = left; c < right; ++c) {
            load(in + ((image * height + y) * width + c) * channels + channel, x);
#pragma unroll
            for (int i = 0; i < VECTOR; ++i) result[i] = MAXIMUM ? larger(x[i], result[i]) : result[i] + x[i];
        }
    if (!MAXIMUM) {
        const float count = (float)((bottom - top) * (right - left));
#pragma unroll
        for (int i = 0; i < VECTOR; ++i) result[i] /= count;
    }
    store(out + pixel * channels + channel, result);
}
