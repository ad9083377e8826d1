// Convolution as an implicit matrix product: a row is an output pixel, a column an output channel, k goes through
// kernel rows, kernel columns and channels; weights lie as [out channel][row][column][channel]. Grouped, dilated and
// strided ones alike; bias, residual and activation fused.
// Access: see gemm.cuh; the rows of A are gathered from the NHWC input, zero outside of it. With splits > 1 blocks
// share the sum over k and write partial sums to `partial` [split][pixel][channel], which split_sum.cu adds up.
// out_pitch: from one pixel of the output to the next.
// Options: ELEMENT, VECTOR (divides the channels of a group), TILE_M, TILE_N, TILE_K, THREAD_M, THREAD_N, ACTIVATION,
// perhaps TENSOR_CORE.
// Grid: tiles of pixels, tiles of a group's channels, groups * splits.
#include "pixel_rows.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    convolution(const Element* __restrict__ in, const Element* __restrict__ weight, const Element* __restrict__ bias,
                const Element* __restrict__ residual, Element* __restrict__ out, float* __restrict__ partial, int batch,
                int height, int width, int channels, int out_height, int out_width, int out_channels, int kernel_h,
                int kernel_w, int stride_h, int stride_w, int padding_h, int padding_w, int dilation_h, int dilation_w,
                int groups, int splits, int out_pitch) {
    __shared__ Tiles tiles;
    const int pixels = batch * out_height * out_width, group = blockIdx.z / splits, split = blockIdx.z % splits;
    const int group_in = channels / groups, group_out = out_channels / groups;
    const int length = kernel_h * kernel_w * group_in;
    const int all_steps = (length + TILE_K - 1) / TILE_K, share = (all_steps + splits - 1) / splits;
    const int steps = max(0, min(share, all_steps - split * share)), begin = split * share * TILE_K;
    const int first_row = blockIdx.x * TILE_M, first_column = blockIdx.y * TILE_N;

    const Windows windows(first_row, pixels, height, width, channels, out_height, out_width, stride_h, stride_w,
                          padding_h, padding_w);
    PixelRows rows = {windows, in + group * group_in, group_in, kernel_h, kernel_w, dilation_h, dilation_w};
    rows.seek(begin + threadIdx.x % K_VECTORS * VECTOR);
    WeightRows weights(weight + group * group_out * length, first_column, group_out, length, begin, length);

    Sums sum;
    product(rows, weights, steps, tiles, sum);

    const bool whole = fours(out, group_out, out_pitch);
    each_run(sum, first_row, first_column, pixels, group_out, [&](int pixel, int column, int count, float(&run)[RUN]) {
        const int channel = group * group_out + column, at = pixel * out_channels + channel;
        if (splits > 1) {
            float* const target = partial + split * pixels * out_channels + at;
            for (int v = 0; v < min(RUN, count); ++v) target[v] = run[v];
        } else {
            finish(run, count, whole, bias ? bias + channel : nullptr, residual ? residual + at : nullptr,
                   out + pixel * out_pitch + channel);
        }
    });
}
