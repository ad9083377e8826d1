// The matrix product that convolutions are: sum[m][n] over k of A[m][k] * B[n][k], one TILE_M x TILE_N tile a block:
// where its operands come from, and what becomes of the sums.
// Access: along k, each access is VECTOR neighbours; threads side by side take neighbouring vectors of a row.
// Options: ELEMENT, VECTOR (16 bytes at most), TILE_M, TILE_N, TILE_K (a multiple of 4), THREAD_M, THREAD_N (multiples of
// 4: a thread's share), ACTIVATION; TENSOR_CORE: products as in tensor_product.cuh instead of core_product.cuh.
#pragma once
#include "element.cuh"

#define THREADS ((TILE_M / THREAD_M) * (TILE_N / THREAD_N))
#define K_VECTORS (TILE_K / VECTOR)
#define ROW_STEP (THREADS / K_VECTORS)  // rows that all threads together fetch at a time
#define ROWS_M (TILE_M / ROW_STEP)
#define ROWS_N (TILE_N / ROW_STEP)
// Where the windows of a thread's rows of A, which are output pixels, begin in an NHWC input.
struct Windows {
    int start[ROWS_M], top[ROWS_M], left[ROWS_M], height, width, pitch;

    __device__ __forceinline__ Windows(int first, int pixels, int in_height, int in_width, int channels, int out_height,
                                       int out_width, int stride_h, int stride_w, int padding_h, int padding_w)
        : height(in_height), width(in_width), pitch(channels) {
#pragma unroll
        for (int i = 0; i < ROWS_M; ++i) {
            const int pixel = first + threadIdx.x / K_VECTORS + i * ROW_STEP;
            const int image = pixel / (out_height * out_width), rest = pixel % (out_height * out_width);
            start[i] = image * height * width * pitch;
            // A window below the input reads nothing: rows past the last pixel.
            top[i] = pixel < pixels ? rest / out_width * stride_h - padding_h : height;
            left[i] = rest % out_width * stride_w - padding_w;
        }
    }

    // The place of a pixel of row i's window in the input, or -1 if it lies outside.
    __device__ __forceinline__ int place(int i, int down, int across) const {
        const int y = top[i] + down, x = left[i] + across;
        return y >= 0 && y < height && x >= 0 && x < width ? start[i] + (y * width + x) * pitch : -1;
    }
};

// A thread's part of the rows of B, the weights: row n, `length` elements of k each.
struct WeightRows {
    const Element* weight;
    int rows[ROWS_N], k, end;

    __device__ __forceinline__ WeightRows(const Element* weights, int first, int count, int length, int begin, int stop)
        : weight(weights), k(begin + threadIdx.x % K_VECTORS * VECTOR), end(stop) {
#pragma unroll
        for (int i = 0; i < ROWS_N; ++i) {
            const int row = first + threadIdx.x / K_VECTORS + i * ROW_STEP;
            rows[i] = row < count ? row * length : -1;
        }
    }

    template <typename Value>
    __device__ __forceinline__ void fetch(Value (&values)[ROWS_N][VECTOR]) {
#pragma unroll
        for (int i = 0; i < ROWS_N; ++i) load_if(rows[i] >= 0 && k < end, weight + rows[i] + k, values[i]);
        k += TILE_K;
    }
};

#ifdef TENSOR_CORE
#include "tensor_product.cuh"
#else
#include "core_product.cuh"
#endif

template <int N>
__device__ __forceinline__ void clear(float (&values)[N]) {
#pragma unroll
    for (int i = 0; i < N; ++i) values[i] = 0.0f;
}
template <typename Row, int N>
__device__ __forceinline__ void clear(Row (&rows)[N]) {
#pragma unroll
    for (int i = 0; i < N; ++i) clear(rows[i]);
}

// rows.fetch gives the next TILE_K columns of A, weights.fetch those of B; `steps` of TILE_K. Tiles go through registers
// into one of two buffers in shared memory while the other one is multiplied: one barrier for each TILE_K.
template <typename Rows>
__device__ __forceinline__ void product(Rows& rows, WeightRows& weights, int steps, Tiles& tiles, Sums& sum) {
    Fetched a[ROWS_M][VECTOR], b[ROWS_N][VECTOR];
    clear(sum);
    rows.fetch(a);
    weights.fetch(b);
    put(a, tiles.a[0]);
    put(b, tiles.b[0]);
    __syncthreads();
    for (int step = 0; step < steps; ++step) {
        const bool more = step + 1 < steps;
        if (more) {
            rows.fetch(a);
            weights.fetch(b);
        }
        multiply(tiles.a[step % 2], tiles.b[step % 2], sum);
        if (more) {
            put(a, tiles.a[(step + 1) % 2]);
            put(b, tiles.b[(step + 1) % 2]);
        }
        // One barrier is enough: what is written now was last read before the barrier of the step before.
        __syncthreads();
    }
}

// Whether all runs of a result are whole and aligned: of so many channels, `pitch` elements from pixel to pixel.
__device__ __forceinline__ bool fours(const Element* out, int channels, int pitch) {
    return (channels | pitch) % RUN == 0 && reinterpret_cast<unsigned long long>(out) % (RUN * sizeof(Element)) == 0;
}

// Bias, residual and activation of N neighbouring channels, and the write; `count`: how many of them exist; `whole`: N
// divides the channels, so that places are aligned.
template <int N>
__device__ __forceinline__ void finish(float (&values)[N], int count, bool whole, const Element* bias,
                                       const Element* residual, Element* out) {
    float extra[N];
    if (whole && count >= N) {
        if (bias) {
            load(bias, extra);
#pragma unroll
            for (int i = 0; i < N; ++i) values[i] += extra[i];
        }
        if (residual) {
            load(residual, extra);
#pragma unroll
            for (int i = 0; i < N; ++i) values[i] += extra[i];
        }
        activate<ACTIVATION>(values);
        store(out, values);
        return;
    }
#pragma unroll
    for (int i = 0; i < N; ++i) {
        if (i >= count) return;
        float value[1] = {values[i]};
        if (bias) value[0] += to_float(bias[i]);
        if (residual) value[0] += to_float(residual[i]);
        activate<ACTIVATION>(value);
        store(out + i, value);
    }
}
