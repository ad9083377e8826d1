// The rows of A in a convolution's matrix product: windows of an NHWC input, gathered tap by tap, zero outside of it.
#pragma once
#include "gemm.cuh"

// A thread's part of the rows of A: its windows, and which tap and channel of them is next.
struct PixelRows {
    const Windows windows;
    const Element* in;
    int channels, kernel_h, kernel_w, dilation_h, dilation_w;
    int row, column, channel;

    __device__ __forceinline__ void seek(int k) {
        channel = k % channels;
        column = k / channels % kernel_w;
        row = k / channels / kernel_w;
    }

    template <typename Value>
    __device__ __forceinline__ void fetch(Value (&values)[ROWS_M][VECTOR]) {
#pragma unroll
        for (int i = 0; i < ROWS_M; ++i) {
            const int place = windows.place(i, row * dilation_h, column * dilation_w);
            load_if(row < kernel_h && place >= 0, in + place + channel, values[i]);
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
