// Global pooling: one number for each image and channel.
// Access: a block takes COLUMNS vectors of channels (128 bytes side by side) of one image, its ROWS rows of threads go
// through the pixels together; then a tree in shared memory.
// Options: ELEMENT, VECTOR, MAXIMUM (0 or 1); the block is COLUMNS x ROWS threads.
#include "element.cuh"

#define COLUMNS 8
#define ROWS 32

__device__ __forceinline__ float pooled(float a, float b) { return MAXIMUM ? larger(a, b) : a + b; }

extern "C" __global__ void global_pool(const Element* __restrict__ in, Element* __restrict__ out, int pixels,
                                       int channels) {
    __shared__ float partial[ROWS][COLUMNS * VECTOR];
    const unsigned chunks = (channels / VECTOR + COLUMNS - 1) / COLUMNS;
    const unsigned image = blockIdx.x / chunks;
    const int channel = (blockIdx.x % chunks * COLUMNS + threadIdx.x) * VECTOR;
    const Element* const first = in + image * pixels * channels + channel;
    float result[VECTOR], x[VECTOR];
#pragma unroll
    for (int i = 0; i < VECTOR; ++i) result[i] = MAXIMUM ? LOWEST : 0.0f;
    if (channel < channels)
        for (int pixel = threadIdx.y; pixel < pixels; pixel += ROWS) {
            load(first + pixel * channels, x);
#pragma unroll
            for (int i = 0; i < VECTOR; ++i) result[i] = pooled(x[i], result[i]);
        }
    float* const mine = &partial[threadIdx.y][threadIdx.x * VECTOR];
#pragma unroll
    for (int i = 0; i < VECTOR; ++i) mine[i] = result[i];
    for (int half = ROWS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.y < half)
#pragma unroll
            for (int i = 0; i < VECTOR; ++i) mine[i] = pooled(mine[i], mine[half * COLUMNS * VECTOR + i]);
    }
    if (threadIdx.y == 0 && channel < channels) {
#pragma unroll
        for (int i = 0; i < VECTOR; ++i) result[i] = MAXIMUM ? mine[i] : mine[i] / (float)pixels;
        store(out + image * channels + channel, result);
    }
}
