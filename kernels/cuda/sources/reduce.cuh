// Reductions over the threads of a warp and of a block; every thread gets the result.
#pragma once

template <typename Combine>
__device__ __forceinline__ float warp_reduce(float value, Combine combine) {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) value = combine(value, __shfl_xor_sync(0xffffffffu, value, offset));
    return value;
}

// For a block of whole warps in one row; `partial` is 32 floats of shared memory.
template <typename Combine>
__device__ __forceinline__ float block_reduce(float value, float* partial, Combine combine) {
    value = warp_reduce(value, combine);
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
    __syncthreads();
    value = partial[0];
    for (int warp = 1; warp < blockDim.x / 32; ++warp) value = combine(value, partial[warp]);
    __syncthreads();  // before `partial` is used again
    return value;
}
