// Sliding windows over the rows of an NHWC tensor: a thread makes STRIP neighbouring outputs of one vector of channels,
// so that a column of the input is loaded once for all windows that hold it.
// Options: KERNEL_W, STRIDE_W (constants of the loops; KERNEL_W 0: any width, stride and dilation, STRIP 1), STRIP.
#pragma once
#include "element.cuh"

// Where a thread's strip of outputs stands.
struct Strip {
    int image, row, column, channel;
    bool inside;

    __device__ __forceinline__ Strip(int batch, int out_height, int out_width, int channels) {
        const unsigned vectors = channels / VECTOR, strips = (out_width + STRIP - 1) / STRIP;
        unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
        inside = index < vectors * strips * out_height * batch;
        channel = index % vectors * VECTOR;
        index /= vectors;
        column = index % strips * STRIP;
        index /= strips;
        row = index % out_height;
        image = index / out_height;
    }
};

// visit(output of the strip, tap, values) for every tap inside of the row; `first`: the first window's first column.
template <typename Visit>
__device__ __forceinline__ void sweep_row(const Element* row, int first, int width, int pitch, int kernel, int dilation,
                                          Visit visit) {
    float values[VECTOR];
#if KERNEL_W
#pragma unroll
    for (int j = 0; j < (STRIP - 1) * STRIDE_W + KERNEL_W; ++j) {
        const int column = first + j;
        if (column < 0 || column >= width) continue;
        load(row + column * pitch, values);
#pragma unroll
        for (int output = 0; output < STRIP; ++output) {
            const int tap = j - output * STRIDE_W;
            if (tap >= 0 && tap < KERNEL_W) visit(output, tap, values);
        }
    }
#else
    for (int tap = 0; tap < kernel; ++tap) {
        const int column = first + tap * dilation;
        if (column < 0 || column >= width) continue;
        load(row + column * pitch, values);
        visit(0, tap, values);
    }
#endif
}
