// One step of a tensor core: sum[16][8] += A[16][k] * B[8][k] by a warp, in float. A word is 32 bits: two elements of
// half precision, neighbours along k, or one float that was rounded to TF32; a step takes eight words of k.
// Lane 4 * g + t holds of A the words t and t + 4 of the rows g and g + 8, of B those of row g, and of the sums columns
// 2 * t and 2 * t + 1 of the rows g and g + 8 (PTX ISA, "Matrix Fragments for mma.m16n8k16" and its neighbours).
#pragma once
#include "element.cuh"

struct FragmentA {
    unsigned word[4];  // (g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4)
};
struct FragmentB {
    unsigned word[2];  // t, t + 4
};

#ifdef __CUDACC__
#define MMA(shape, types)                                                                                        \
    asm volatile("mma.sync.aligned." shape ".row.col.f32." types ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "    \
        "{%0, %1, %2, %3};"                                                                                      \
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])                                                 \
        : "r"(a.word[0]), "r"(a.word[1]), "r"(a.word[2]), "r"(a.word[3]), "r"(b.word[0]), "r"(b.word[1]))

__device__ __forceinline__ void multiply_add(float (&sum)[4], const FragmentA& a, const FragmentB& b, Float16) {
#if __CUDA_ARCH__ >= 800
    MMA("m16n8k16", "f16.f16");
#else  // Turing has steps of half the length
#pragma unroll
    for (int half = 0; half < 2; ++half)
        asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
            : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
            : "r"(a.word[2 * half]), "r"(a.word[2 * half + 1]), "r"(b.word[half]));
#endif
}
#if __CUDA_ARCH__ >= 800
__device__ __forceinline__ void multiply_add(float (&sum)[4], const FragmentA& a, const FragmentB& b, BFloat16) {
    MMA("m16n8k16", "bf16.bf16");
}
__device__ __forceinline__ void multiply_add(float (&sum)[4], const FragmentA& a, const FragmentB& b, Float32) {
    MMA("m16n8k8", "tf32.tf32");
}
#endif
// To TF32: 10 bits of mantissa, to nearest, ties away from zero.
__device__ __forceinline__ unsigned tf32_bits(float x) {
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return bits;
}
#else  // the shim does a warp's step on the host
template <typename T>
__device__ __forceinline__ void multiply_add(float (&sum)[4], const FragmentA& a, const FragmentB& b, T) {
    constexpr int ELEMENTS = 4 / sizeof(T);  // of a word
    const T* const left = reinterpret_cast<const T*>(a.word);
    const T* const right = reinterpret_cast<const T*>(b.word);
    float values[6 * 2] = {};
    for (int i = 0; i < 6 * ELEMENTS; ++i)
        values[i / ELEMENTS * 2 + i % ELEMENTS] = to_float(i < 4 * ELEMENTS ? left[i] : right[i - 4 * ELEMENTS]);
    shim_multiply_add(sum, values);
}
__device__ __forceinline__ unsigned tf32_bits(float x) {
    const unsigned bits = __float_as_uint(x);
    return (bits & 0x7f800000u) == 0x7f800000u ? bits : (bits + 0x1000u) & ~0x1fffu;
}
#endif

// An element as a tensor core takes it.
__device__ __forceinline__ Float16 operand(Float16 x) { return x; }
__device__ __forceinline__ BFloat16 operand(BFloat16 x) { return x; }
__device__ __forceinline__ Float32 operand(Float32 x) { return __uint_as_float(tf32_bits(x)); }
