// The matrix product that convolutions are: sum[m][n] over k of A[m][k] * B[n][k], one TILE_M x TILE_N tile a block.
// Access: tiles of A and B go through registers into one of two buffers in shared memory while the other one is
// multiplied, so there is one barrier for each TILE_K; along k, each access is VECTOR neighbours; threads side by side
// take neighbouring vectors of a row. The multiplication reads 16-byte vectors; rows are padded against bank conflicts.
// Options: ELEMENT, VECTOR (1, 2 or 4), TILE_M, TILE_N, TILE_K (a multiple of 4), THREAD_M, THREAD_N (multiples of 4: a
// thread's share), ACTIVATION.
#pragma once
#include "element.cuh"

#define THREADS ((TILE_M / THREAD_M) * (TILE_N / THREAD_N))
#define K_VECTORS (TILE_K / VECTOR)
#define ROW_STEP (THREADS / K_VECTORS)  // rows that all threads together fetch at a time
#define ROWS_M (TILE_M / ROW_STEP)
#define ROWS_N (TILE_N / ROW_STEP)
#define PITCH_M (TILE_M + 4)
#define PITCH_N (TILE_N + 4)
// Steps of k written out: more of a large share would have more loads in flight than there are registers.
constexpr int UNROLLED = THREAD_M * THREAD_N >= 64 ? 2 : 8;
// Blocks that a multiprocessor should have room for: 512 threads of 128 registers, where that needs no spills.
#define BLOCKS (VECTOR == 4 && sizeof(Element) == 4 ? 512 / THREADS : 1)

struct alignas(16) Tiles {
    float a[2][TILE_K][PITCH_M];
    float b[2][TILE_K][PITCH_N];
};

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

    __device__ __forceinline__ void fetch(float (&values)[ROWS_N][VECTOR]) {
#pragma unroll
        for (int i = 0; i < ROWS_N; ++i) {
            if (rows[i] >= 0 && k < end) {
                load(weight + rows[i] + k, values[i]);
            } else {
#pragma unroll
                for (int v = 0; v < VECTOR; ++v) values[i][v] = 0.0f;
            }
        }
        k += TILE_K;
    }
};

// What a thread fetched, turned: k comes first in shared memory.
template <int ROWS, int PITCH>
__device__ __forceinline__ void put(const float (&values)[ROWS][VECTOR], float (&tile)[TILE_K][PITCH]) {
    const int k = threadIdx.x % K_VECTORS * VECTOR, row = threadIdx.x / K_VECTORS;
#pragma unroll
    for (int i = 0; i < ROWS; ++i)
#pragma unroll
        for (int v = 0; v < VECTOR; ++v) tile[k + v][row + i * ROW_STEP] = values[i][v];
}

// A thread's rows and columns come in fours, spread over the tile: neighbours read neighbouring vectors.
__device__ __forceinline__ int row_of(int i) {
    return i / 4 * (TILE_M / THREAD_M * 4) + threadIdx.x / (TILE_N / THREAD_N) * 4 + i % 4;
}
__device__ __forceinline__ int column_of(int j) {
    return j / 4 * (TILE_N / THREAD_N * 4) + threadIdx.x % (TILE_N / THREAD_N) * 4 + j % 4;
}

__device__ __forceinline__ void multiply(const float (&a)[TILE_K][PITCH_M], const float (&b)[TILE_K][PITCH_N],
                                         float (&sum)[THREAD_M][THREAD_N]) {
#pragma unroll UNROLLED
    for (int k = 0; k < TILE_K; ++k) {
        float x[THREAD_M / 4][4], y[THREAD_N / 4][4];
#pragma unroll
        for (int i = 0; i < THREAD_M / 4; ++i) load(&a[k][row_of(4 * i)], x[i]);
#pragma unroll
        for (int j = 0; j < THREAD_N / 4; ++j) load(&b[k][column_of(4 * j)], y[j]);
#pragma unroll
        for (int i = 0; i < THREAD_M; ++i)
#pragma unroll
            for (int j = 0; j < THREAD_N; ++j) sum[i][j] = fmaf(x[i / 4][i % 4], y[j / 4][j % 4], sum[i][j]);
    }
}

// rows.fetch gives the next TILE_K columns of A, weights.fetch those of B; `tiles` steps of TILE_K.
template <typename Rows>
__device__ __forceinline__ void product(Rows& rows, WeightRows& weights, int steps, Tiles& tiles,
                                        float (&sum)[THREAD_M][THREAD_N]) {
    float a[ROWS_M][VECTOR], b[ROWS_N][VECTOR];
#pragma unroll
    for (int i = 0; i < THREAD_M; ++i)
#pragma unroll
        for (int j = 0; j < THREAD_N; ++j) sum[i][j] = 0.0f;
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

// visit(row, column, how many of them exist, values) for every four neighbouring sums of a thread that are no padding.
template <typename Visit>
__device__ __forceinline__ void each_four(const float (&sum)[THREAD_M][THREAD_N], int first_row, int first_column,
                                          int rows, int columns, Visit visit) {
#pragma unroll
    for (int i = 0; i < THREAD_M; ++i) {
        const int row = first_row + row_of(i);
        if (row >= rows) continue;
#pragma unroll
        for (int j = 0; j < THREAD_N; j += 4) {
            const int column = first_column + column_of(j), count = min(4, columns - column);
            if (count <= 0) continue;
            float values[4] = {sum[i][j], sum[i][j + 1], sum[i][j + 2], sum[i][j + 3]};
            visit(row, column, count, values);
        }
    }
}

// Bias, residual and activation of four neighbouring channels, and the write; `count`: how many of the four exist.
__device__ __forceinline__ void finish(float (&values)[4], int count, bool whole, const Element* bias,
                                       const Element* residual, Element* out) {
    float extra[4];
    if (whole && count == 4) {
        if (bias) {
            load(bias, extra);
#pragma unroll
            for (int i = 0; i < 4; ++i) values[i] += extra[i];
        }
        if (residual) {
            load(residual, extra);
#pragma unroll
            for (int i = 0; i < 4; ++i) values[i] += extra[i];
        }
        activate<ACTIVATION>(values);
        store(out, values);
        return;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        if (i >= count) return;
        float value[1] = {values[i]};
        if (bias) value[0] += to_float(bias[i]);
        if (residual) value[0] += to_float(residual[i]);
        activate<ACTIVATION>(value);
        store(out + i, value);
    }
}
