// The product by fused multiply-adds. The multiplication reads 16-byte vectors; k comes first in shared memory, and rows
// are padded against bank conflicts.
#pragma once

#define PITCH_M (TILE_M + 4)
#define PITCH_N (TILE_N + 4)
// Steps of k written out: more of a large share would have more loads in flight than there are registers.
constexpr int UNROLLED = THREAD_M * THREAD_N >= 64 ? 2 : 8;
// Blocks that a multiprocessor should have room for: 512 threads of 128 registers, where that needs no spills.
#define BLOCKS (VECTOR == 4 && sizeof(Element) == 4 ? 512 / THREADS : 1)

#define RUN 4  // neighbouring columns that a thread ends with
typedef float Fetched;
typedef float Sums[THREAD_M][THREAD_N];

struct alignas(16) Tiles {
    float a[2][TILE_K][PITCH_M];
    float b[2][TILE_K][PITCH_N];
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
                                         Sums& sum) {
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

// visit(row, column, how many of them exist, values) for every RUN neighbouring sums of a thread that are no padding.
template <typename Visit>
__device__ __forceinline__ void each_run(const Sums& sum, int first_row, int first_column,
                                          int rows, int columns, Visit visit) {
#pragma unroll
    for (int i = 0; i < THREAD_M; ++i) {
        const int row = first_row + row_of(i);
        if (row >= rows) continue;
#pragma unroll
        for (int j = 0; j < THREAD_N; j += 4) {
            const int column = first_column + column_of(j), count = min(4, columns - column);
            if (count <= 0) continue;
            float values[RUN] = {sum[i][j], sum[i][j + 1], sum[i][j + 2], sum[i][j + 3]};
            visit(row, column, count, values);
        }
    }
}
