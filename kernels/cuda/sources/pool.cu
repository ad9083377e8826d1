// Max and average pooling with PyTorch's padding, ceil_mode and count_include_pad.
// Access: see window.cuh; threads of a warp read neighbouring channels, or pixels where channels are few.
// Options: ELEMENT, VECTOR, MAXIMUM (0 or 1), KERNEL_W, STRIDE_W, STRIP.
#include "window.cuh"

extern "C" __global__ void pool(const Element* __restrict__ in, Element* __restrict__ out, int batch, int height,
                                int width, int channels, int out_height, int out_width, int kernel_h, int kernel_w,
                                int stride_h, int stride_w, int padding_h, int padding_w, int include_padding,
                                int out_pitch) {
    const Strip strip(batch, out_height, out_width, channels);
    if (!strip.inside) return;
    float result[STRIP][VECTOR];
#pragma unroll
    for (int w = 0; w < STRIP; ++w)
#pragma unroll
        for (int i = 0; i < VECTOR; ++i) result[w][i] = MAXIMUM ? LOWEST : 0.0f;

    const int top = strip.row * stride_h - padding_h, left = strip.column * stride_w - padding_w;
    const Element* const image = in + strip.image * height * width * channels + strip.channel;
    for (int tap = 0; tap < kernel_h; ++tap) {
        const int y = top + tap;
        if (y < 0 || y >= height) continue;
        sweep_row(image + y * width * channels, left, width, channels, kernel_w, 1,
                  [&](int output, int, const float(&x)[VECTOR]) {
#pragma unroll
                      for (int i = 0; i < VECTOR; ++i)
                          result[output][i] = MAXIMUM ? larger(x[i], result[output][i]) : result[output][i] + x[i];
                  });
    }

    Element* const target = out + (strip.image * out_height + strip.row) * out_width * out_pitch + strip.channel;
#pragma unroll
    for (int w = 0; w < STRIP; ++w) {
        const int column = strip.column + w;
        if (column >= out_width) break;
        if (!MAXIMUM) {
            // A window counts what of it lies inside of the padded input, or inside of the input itself.
            const int x = column * stride_w - padding_w, edge = include_padding ? 0 : 1;
            const int bottom = min(top + kernel_h, height + (edge ? 0 : padding_h));
            const int right = min(x + kernel_w, width + (edge ? 0 : padding_w));
            const int count = (bottom - (edge ? max(top, 0) : top)) * (right - (edge ? max(x, 0) : x));
#pragma unroll
            for (int i = 0; i < VECTOR; ++i) result[w][i] /= (float)count;
        }
        store(target + column * out_pitch, result[w]);
    }
}
