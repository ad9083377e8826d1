// Convolution as an implicit matrix product: a row is an output pixel, a column an output channel, k goes through kernel
// rows, kernel columns and channels; weights lie as [out channel][row][column][channel]. Grouped, dilated and strided
// ones alike; bias, residual and activation fused.
// Access: see gemm.cuh; the rows of A are gathered from the NHWC input, zero outside of it. With splits > 1 blocks share
// the sum over k and write partial sums to `partial` [split][pixel][channel], which split_sum.cu adds up.
// Options: ELEMENT, VECTOR (divides the channels of a group), TILE_M, TILE_N, TILE_K, THREAD_M, THREAD_N, ACTIVATION.
// Grid: tiles of pixels, tiles of a group's channels, groups * splits.
#include "gemm.cuh"

// A thread's part of the rows of A: where its output pixels' windows begin, and which tap and channel is next.
struct PixelRows {
    const Element* in;
    int start[ROWS_M], top[ROWS_M], left[ROWS_M];
    int height, width, pitch, channels, kernel_h, kernel_w, dilation_h, dilation_w;
    int row, column, channel;

    __device__ __forceinline__ void seek(int k) {
        channel = k % channels;
        column = k / channels % kernel_w;
        row = k / channels / kernel_w;
    }

    __device__ __forceinline__ void fetch(float (&values)[ROWS_M][VECTOR]) {
        const int down = row * dilation_h, across = column * dilation_w;
#pragma unroll
        for (int i = 0; i < ROWS_M; ++i) {
            const int y = top[i] + down, x = left[i] + across;
            if (row < kernel_h && y >= 0 && y < height && x >= 0 && x < width) {
                load(in + start[i] + (y * width + x) * pitch + channel, values[i]);
            } else {
#pragma unroll
                for (int v = 0; v < VECTOR; ++v) values[i][v] = 0.0f;
            }
        }
        channel += TILE_K;
        while (channel >= channels) {
            channel -= channels;
            if (++column == kernel_w) {
                column = 0;
                ++row;
            }
        }
    }
};

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    convolution(const Element* __restrict__ in, const Element* __restrict__ weight, const Element* __restrict__ bias,
                const Element* __restrict__ residual, Element* __restrict__ out, float* __restrict__ partial, int batch,
                int height, int width, int channels, int out_height, int out_width, int out_channels, int kernel_h,
                int kernel_w, int stride_h, int stride_w, int padding_h, int padding_w, int dilation_h, int dilation_w,
                int groups, int splits) {
    __shared__ Tiles tiles;
    const int pixels = batch * out_height * out_width, group = blockIdx.z / splits, split = blockIdx.z % splits;
    const int group_in = channels / groups, group_out = out_channels / groups;
    const int length = kernel_h * kernel_w * group_in;
    const int all_steps = (length + TILE_K - 1) / TILE_K, share = (all_steps + splits - 1) / splits;
    const int steps = max(0, min(share, all_steps - split * share)), begin = split * share * TILE_K;
    const int first_row = blockIdx.x * TILE_M, first_column = blockIdx.y * TILE_N;

    PixelRows rows;
    rows.in = in + group * group_in;
    rows.height = height, rows.width = width, rows.pitch = channels, rows.channels = group_in;
    rows.kernel_h = kernel_h, rows.kernel_w = kernel_w, rows.dilation_h = dilation_h, rows.dilation_w = dilation_w;
    rows.seek(begin + threadIdx.x % K_VECTORS * VECTOR);
#pragma unroll
    for (int i = 0; i < ROWS_M; ++i) {
        const int pixel = first_row + threadIdx.x / K_VECTORS + i * ROW_STEP;
        const int image = pixel / (out_height * out_width), rest = pixel % (out_height * out_width);
        rows.start[i] = image * height * width * channels;
        // A window below the input reads nothing: rows past the last pixel.
        rows.top[i] = pixel < pixels ? rest / out_width * stride_h - padding_h : height;
        rows.left[i] = rest % out_width * stride_w - padding_w;
    }
    WeightRows weights(weight + group * group_out * length, first_column, group_out, length, begin, length);

    float sum[THREAD_M][THREAD_N];
    product(rows, weights, steps, tiles, sum);

    const bool whole = group_out % 4 == 0;
#pragma unroll
    for (int i = 0; i < THREAD_M; ++i) {
        const int pixel = first_row + row_of(i);
        if (pixel >= pixels) continue;
#pragma unroll
        for (int j = 0; j < THREAD_N; j += 4) {
            const int column = first_column + column_of(j), count = min(4, group_out - column);
            if (count <= 0) continue;
            float values[4] = {sum[i][j], sum[i][j + 1], sum[i][j + 2], sum[i][j + 3]};
            const int channel = group * group_out + column, at = pixel * out_channels + channel;
            if (splits > 1) {
                float* const target = partial + split * pixels * out_channels + at;
                for (int v = 0; v < count; ++v) target[v] = values[v];
            } else {
                finish(values, count, whole, bias ? bias + channel : nullptr, residual ? residual + at : nullptr,
                       out + at);
            }
        }
    }
}
