// Transposed convolution, gathered: an output pixel sums over the taps that some input pixel puts on it. Weights lie as
// [row][column][in channel][out channel of the group]; bias and activation fused.
// Access: a thread makes one output channel of one pixel; neighbours read neighbouring weights and the same input.
// Options: ELEMENT, ACTIVATION.
#include "element.cuh"

extern "C" __global__ void transposed_convolution(const Element* __restrict__ in, const Element* __restrict__ weight,
                                                  const Element* __restrict__ bias, Element* __restrict__ out,
                                                  unsigned count, int height, int width, int channels, int out_height,
                                                  int out_width, int out_channels, int kernel_h, int kernel_w,
                                                  int stride_h, int stride_w, int padding_h, int padding_w,
                                                  int dilation_h, int dilation_w, int groups) {
    const unsigned at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= count) return;
    const int out_channel = at % out_channels, pixel = at / out_channels;
    const int column = pixel % out_width, row = pixel / out_width % out_height, image = pixel / out_width / out_height;
    const int group_in = channels / groups, group_out = out_channels / groups, group = out_channel / group_out;
    const Element* const source = in + image * height * width * channels + group * group_in;
    const Element* const taps = weight + group * group_in * group_out + out_channel % group_out;
    float sum[1] = {bias ? to_float(bias[out_channel]) : 0.0f};
    for (int r = 0; r < kernel_h; ++r) {
        const int y = row + padding_h - r * dilation_h;
        if (y < 0 || y % stride_h != 0 || y / stride_h >= height) continue;
        for (int s = 0; s < kernel_w; ++s) {
            const int x = column + padding_w - s * dilation_w;
            if (x < 0 || x % stride_w != 0 || x / stride_w >= width) continue;
            const Element* const from = source + (y / stride_h * width + x / stride_w) * channels;
            const Element* const by = taps + (r * kernel_w + s) * channels * group_out;
            for (int c = 0; c < group_in; ++c) sum[0] = fmaf(to_float(from[c]), to_float(by[c * group_out]), sum[0]);
        }
    }
    activate<ACTIVATION>(sum);
    store(out + at, sum);
}
