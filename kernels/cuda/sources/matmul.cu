// Products of matrices, two axes of which number them; every axis by its stride, so that heads may lie anywhere. A bias
// for each column and an activation are fused, for linear layers.
// Access: 32 x 32 tiles through shared memory, a row padded by one; a thread makes 2 x 2 sums, 16 apart.
// Options: ELEMENT, ACTIVATION. Block: 16 x 16. Grid: tiles of a matrix, matrices.
#include "element.cuh"

#define TILE 32
#define SIDE 16

extern "C" __global__ void matmul(const Element* __restrict__ a, const Element* __restrict__ b,
                                  const Element* __restrict__ bias, Element* __restrict__ out, int rows, int columns,
                                  int length, int inner, int a_outer, int a_inner, int a_row, int a_k, int b_outer,
                                  int b_inner, int b_k, int b_column, int out_outer, int out_inner, int out_row,
                                  int out_column) {
    __shared__ float left[TILE][TILE + 1], right[TILE][TILE + 1];
    const int across = (columns + TILE - 1) / TILE;
    const int top = blockIdx.x / across * TILE, first = blockIdx.x % across * TILE;
    const int outer_index = blockIdx.y / inner, inner_index = blockIdx.y % inner;
    a += outer_index * a_outer + inner_index * a_inner;
    b += outer_index * b_outer + inner_index * b_inner;
    out += outer_index * out_outer + inner_index * out_inner;
    float sum[2][2] = {};
    for (int start = 0; start < length; start += TILE) {
        for (int y = threadIdx.y; y < TILE; y += SIDE)
            for (int x = threadIdx.x; x < TILE; x += SIDE) {
                left[y][x] = top + y < rows && start + x < length
                                 ? to_float(a[(top + y) * a_row + (start + x) * a_k])
                                 : 0.0f;
                right[y][x] = start + y < length && first + x < columns
                                  ? to_float(b[(start + y) * b_k + (first + x) * b_column])
                                  : 0.0f;
            }
        __syncthreads();
#pragma unroll 8
        for (int k = 0; k < TILE; ++k)
#pragma unroll
            for (int i = 0; i < 2; ++i)
#pragma unroll
                for (int j = 0; j < 2; ++j)
                    sum[i][j] = fmaf(left[threadIdx.y + i * SIDE][k], right[k][threadIdx.x + j * SIDE], sum[i][j]);
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
        for (int j = 0; j < 2; ++j) {
            const int row = top + threadIdx.y + i * SIDE, column = first + threadIdx.x + j * SIDE;
            if (row >= rows || column >= columns) continue;
            float value[1] = {sum[i][j] + (bias ? to_float(bias[column]) : 0.0f)};
            activate<ACTIVATION>(value);
            store(out + row * out_row + column * out_column, value);
        }
}
