// The product by tensor cores: operands in half precision, or float rounded to TF32; sums in float. Each warp makes a
// part of 8 * THREAD_M rows and 4 * THREAD_N columns of the tile, in steps of 16 x 8 sums.
// In shared memory k comes last: 16 words of a row and four of padding, so that the 32 words that a warp reads at a time
// lie in 32 banks.
// TILE_K is 16 words: 32 elements of half precision, 16 of float.
#pragma once
#include "fragments.cuh"

#define RUN 2  // neighbouring columns that a thread ends with
#define WORDS 16
#define PITCH (TILE_K / WORDS * (WORDS + 4))
#define STEPS_M (8 * THREAD_M / 16)
#define STEPS_N (4 * THREAD_N / 8)
#define WARPS_N (TILE_N / (4 * THREAD_N))
#define BLOCKS 1
typedef Element Fetched;
typedef float Sums[STEPS_M][STEPS_N][4];

struct alignas(16) Tiles {
    Element a[2][TILE_M][PITCH], b[2][TILE_N][PITCH];
};

template <int ROWS, int TILE>
__device__ __forceinline__ void put(Element (&values)[ROWS][VECTOR], Element (&tile)[TILE][PITCH]) {
    const int k = threadIdx.x % K_VECTORS * VECTOR, row = threadIdx.x / K_VECTORS;
#pragma unroll
    for (int i = 0; i < ROWS; ++i) {
#pragma unroll
        for (int v = 0; v < VECTOR; ++v) values[i][v] = operand(values[i][v]);
        give(values[i], &tile[row + i * ROW_STEP][k]);
    }
}

// The rows and columns of a thread's sums in the tile.
struct Place {
    int row, column, group, lane;

    __device__ __forceinline__ Place()
        : row(threadIdx.x / 32 / WARPS_N * (8 * THREAD_M)),
          column(threadIdx.x / 32 % WARPS_N * (4 * THREAD_N)),
          group(threadIdx.x % 32 / 4),
          lane(threadIdx.x % 4) {}
};

__device__ __forceinline__ unsigned word(const Element (&row)[PITCH], int index) {
    return reinterpret_cast<const unsigned*>(row)[index];
}

__device__ __forceinline__ void multiply(const Element (&a)[TILE_M][PITCH], const Element (&b)[TILE_N][PITCH],
                                         Sums& sum) {
    const Place place;
#pragma unroll
    for (int k = 0; k < WORDS; k += 8) {
        const int first = k + place.lane;
        FragmentA left[STEPS_M];
#pragma unroll
        for (int i = 0; i < STEPS_M; ++i) {
            const int row = place.row + 16 * i + place.group;
            left[i] = {word(a[row], first), word(a[row + 8], first), word(a[row], first + 4),
                       word(a[row + 8], first + 4)};
        }
#pragma unroll
        for (int j = 0; j < STEPS_N; ++j) {
            const int row = place.column + 8 * j + place.group;
            const FragmentB right = {word(b[row], first), word(b[row], first + 4)};
#pragma unroll
            for (int i = 0; i < STEPS_M; ++i) multiply_add(sum[i][j], left[i], right, Element{});
        }
    }
}

template <typename Visit>
__device__ __forceinline__ void each_run(const Sums& sum, int first_row, int first_column, int rows, int columns,
                                         Visit visit) {
    const Place place;
#pragma unroll
    for (int i = 0; i < 2 * STEPS_M; ++i) {
        const int row = first_row + place.row + 8 * i + place.group;
        if (row >= rows) continue;
#pragma unroll
        for (int j = 0; j < STEPS_N; ++j) {
            const int column = first_column + place.column + 8 * j + 2 * place.lane, count = columns - column;
            if (count <= 0) continue;
            float values[RUN] = {sum[i / 2][j][i % 2 * 2], sum[i / 2][j][i % 2 * 2 + 1]};
            visit(row, column, count, values);
        }
    }
}
