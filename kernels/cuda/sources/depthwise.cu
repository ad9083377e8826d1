// Depthwise convolution: output channel o reads input channel o / multiplier; bias, residual and activation fused.
// Access: see window.cuh; weights lie as [row][column][channel], so that a tap is one vector, kept for the whole strip.
// Options: ELEMENT, VECTOR (1 where multiplier > 1), KERNEL_W, STRIDE_W, STRIP, ACTIVATION.
#include "window.cuh"

extern "C" __global__ void depthwise(const Element* __restrict__ in, const Element* __restrict__ weight,
                                     const Element* __restrict__ bias, const Element* __restrict__ residual,
                                     Element* __restrict__ out, int batch, int height, int width, int channels,
                                     int out_height, int out_width, int out_channels, int kernel_h, int kernel_w,
                                     int stride_h, int stride_w, int padding_h, int padding_w, int dilation_h,
                                     int dilation_w, int out_pitch) {
    const Strip strip(batch, out_height, out_width, out_channels);
    if (!strip.inside) return;
    float sum[STRIP][VECTOR] = {};
    const int top = strip.row * stride_h - padding_h, left = strip.column * stride_w - padding_w;
    const int source = strip.channel / (out_channels / channels);
    const Element* const image = in + strip.image * height * width * channels + source;
    for (int r = 0; r < kernel_h; ++r) {
        const int y = top + r * dilation_h;
        if (y < 0 || y >= height) continue;
        const Element* const taps = weight + r * kernel_w * out_channels + strip.channel;
#if KERNEL_W
        float w[KERNEL_W][VECTOR];
#pragma unroll
        for (int s = 0; s < KERNEL_W; ++s) load(taps + s * out_channels, w[s]);
#endif
        sweep_row(image + y * width * channels, left, width, channels, kernel_w, dilation_w,
                  [&](int output, int s, const float(&x)[VECTOR]) {
#if KERNEL_W
                      const float(&tap)[VECTOR] = w[s];
#else
                      float tap[VECTOR];
                      load(taps + s * out_channels, tap);
#endif
#pragma unroll
                      for (int i = 0; i < VECTOR; ++i) sum[output][i] = fmaf(x[i], tap[i], sum[output][i]);
                  });
    }

    const int pixel = (strip.image * out_height + strip.row) * out_width + strip.column;
    const int first = pixel * out_channels + strip.channel;
    float extra[VECTOR];
#pragma unroll
    for (int w = 0; w < STRIP; ++w) {
        if (strip.column + w >= out_width) break;
        if (bias) {
            load(bias + strip.channel, extra);
#pragma unroll
            for (int i = 0; i < VECTOR; ++i) sum[w][i] += extra[i];
        }
        if (residual) {
            load(residual + first + w * out_channels, extra);
#pragma unroll
            for (int i = 0; i < VECTOR; ++i) sum[w][i] += extra[i];
        }
        activate<ACTIVATION>(sum[w]);
        store(out + (pixel + w) * out_pitch + strip.channel, sum[w]);
    }
}
