// [batch][rows][columns] to [batch][columns][rows]: the order of a flattened tensor.
// Access: a 32 x 32 tile through shared memory, a row of it padded by one: reads and writes side by side, no conflicts.
// Options: ELEMENT. Block: 32 x 8. Grid: tiles.
#include "element.cuh"

#define TILE 32

extern "C" __global__ void transpose(const Element* __restrict__ in, Element* __restrict__ out, int rows,
                                     int columns) {
    __shared__ float tile[TILE][TILE + 1];
    const unsigned across = (columns + TILE - 1) / TILE, down = (rows + TILE - 1) / TILE;
    const unsigned image = blockIdx.x / across / down;
    const int left = blockIdx.x % across * TILE, top = blockIdx.x / across % down * TILE;
    in += image * rows * columns;
    out += image * rows * columns;
    for (int y = threadIdx.y; y < TILE; y += blockDim.y)
        if (top + y < rows && left + threadIdx.x < columns)
            tile[y][threadIdx.x] = to_float(in[(top + y) * columns + left + threadIdx.x]);
    __syncthreads();
    for (int y = threadIdx.y; y < TILE; y += blockDim.y)
        if (left + y < columns && top + threadIdx.x < rows)
            from_float(tile[threadIdx.x][y], out[(left + y) * rows + top + threadIdx.x]);
}
