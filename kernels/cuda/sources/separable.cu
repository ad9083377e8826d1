// Activation, depthwise convolution, pointwise convolution as one kernel: what lies between them never reaches memory.
// Access: see gemm.cuh; a row of A is an output pixel, and its element for channel k is the depthwise sum there, made
// from the NHWC input (VECTOR channels at a time) and the taps [row][column][channel] when the tile is filled. The
// depthwise sums are made again for each TILE_N output channels: cheaper than a trip through memory. Tensor cores take
// them rounded to their operands' precision, as the next kernel would find them in memory.
// Options: ELEMENT, VECTOR (divides the channels), TILE_M, TILE_N, TILE_K, THREAD_M, THREAD_N, BEFORE, BETWEEN,
// ACTIVATION, perhaps TENSOR_CORE. Grid: tiles of pixels, of channels.
#include "gemm.cuh"

struct DepthwiseRows {
    const Windows windows;
    const Element *in, *taps, *bias;
    int channels, kernel_h, kernel_w, dilation_h, dilation_w, channel;

    __device__ __forceinline__ void fetch(Fetched (&values)[ROWS_M][VECTOR]) {
        float sums[ROWS_M][VECTOR];
        make(sums);
#pragma unroll
        for (int i = 0; i < ROWS_M; ++i)
#pragma unroll
            for (int v = 0; v < VECTOR; ++v) from_float(sums[i][v], values[i][v]);
    }

    __device__ __forceinline__ void make(float (&values)[ROWS_M][VECTOR]) {
        clear(values);
        if (channel < channels) {
            float tap[VECTOR], x[VECTOR];
            if (bias) {
                load(bias + channel, tap);
#pragma unroll
                for (int i = 0; i < ROWS_M; ++i)
#pragma unroll
                    for (int v = 0; v < VECTOR; ++v) values[i][v] = tap[v];
            }
            const Element* next = taps + channel;
            for (int r = 0; r < kernel_h; ++r)
                for (int s = 0; s < kernel_w; ++s, next += channels) {
                    load(next, tap);
#pragma unroll
                    for (int i = 0; i < ROWS_M; ++i) {
                        const int place = windows.place(i, r * dilation_h, s * dilation_w);
                        if (place < 0) continue;
                        load(in + place + channel, x);
                        activate<BEFORE>(x);
#pragma unroll
                        for (int v = 0; v < VECTOR; ++v) values[i][v] = fmaf(x[v], tap[v], values[i][v]);
                    }
                }
#pragma unroll
            for (int i = 0; i < ROWS_M; ++i) activate<BETWEEN>(values[i]);
        }
        channel += TILE_K;
    }
};

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    separable(const Element* __restrict__ in, const Element* __restrict__ taps, const Element* __restrict__ taps_bias,
              const Element* __restrict__ weight, const Element* __restrict__ bias,
              const Element* __restrict__ residual, Element* __restrict__ out, int batch, int height, int width,
              int channels, int out_height, int out_width, int out_channels, int kernel_h, int kernel_w, int stride_h,
              int stride_w, int padding_h, int padding_w, int dilation_h, int dilation_w, int out_pitch) {
    __shared__ Tiles tiles;
    const int pixels = batch * out_height * out_width;
    const int first_row = blockIdx.x * TILE_M, first_column = blockIdx.y * TILE_N;

    const Windows windows(first_row, pixels, height, width, channels, out_height, out_width, stride_h, stride_w,
                          padding_h, padding_w);
    const int first_channel = threadIdx.x % K_VECTORS * VECTOR;
    DepthwiseRows rows = {windows,    in,       taps,     taps_bias,  channels,
                          kernel_h,   kernel_w, dilation_h, dilation_w, first_channel};
    WeightRows weights(weight, first_column, out_channels, channels, 0, channels);

    Sums sum;
    product(rows, weights, (channels + TILE_K - 1) / TILE_K, tiles, sum);

    const bool whole = fours(out, out_channels, out_pitch);
    const auto write = [&](int pixel, int channel, int count, float(&run)[RUN]) {
        const int at = pixel * out_channels + channel;
        finish(run, count, whole, bias ? bias + channel : nullptr, residual ? residual + at : nullptr,
               out + pixel * out_pitch + channel);
    };
    each_run(sum, first_row, first_column, pixels, out_channels, write);
}
