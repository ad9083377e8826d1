// Runs CUDA kernels on the CPU, one block at a time: every thread is a fiber, barriers and shuffles are real ones.
//
// Warps, and the threads of a warp, run in a random order, each until it has to wait, and shared memory is NaN before a
// block begins: a missing barrier lets a thread read what is not there yet, or no longer. Divergent barriers are
// errors. Misaligned vectors, indices outside of an array and signed overflow are caught by the compiler's checks,
// whose handlers are in shim.cpp. A tensor core's step is done by the lanes of a warp together, from the registers of
// each, in float. Not shown: races between blocks, how a tensor core rounds its sums, fast-math.
//
// This is what a kernel sees; shim.cpp is what runs it, compiled once. No standard headers: they take longer than
// kernels.
#pragma once

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static __attribute__((section("shared_memory")))
#define __syncthreads() shim_barrier(__LINE__)

struct dim3 {
    unsigned x, y, z;
};
extern dim3 threadIdx, blockIdx, blockDim, gridDim;

void shim_barrier(int line);
float __shfl_xor_sync(unsigned mask, float value, int lanes);
void shim_multiply_add(float (&sum)[4], const float (&values)[12]);  // as fragments.cuh has it; two of each word
float half_value(unsigned short bits);
unsigned short half_bits(float value);
unsigned long long shim_clock();  // nanoseconds

extern "C" {
float ceilf(float) noexcept;
float cosf(float) noexcept;
float erff(float) noexcept;
float expf(float) noexcept;
float expm1f(float) noexcept;
float fabsf(float) noexcept;
float floorf(float) noexcept;
float fmaf(float, float, float) noexcept;
float log1pf(float) noexcept;
float logf(float) noexcept;
float powf(float, float) noexcept;
float sinf(float) noexcept;
float sqrtf(float) noexcept;
float tanhf(float) noexcept;
}

template <typename T>
static inline T min(T a, T b) {
    return b < a ? b : a;
}
template <typename T>
static inline T max(T a, T b) {
    return a < b ? b : a;
}
static inline float __uint_as_float(unsigned bits) {
    float value;
    __builtin_memcpy(&value, &bits, 4);
    return value;
}
static inline unsigned __float_as_uint(float value) {
    unsigned bits;
    __builtin_memcpy(&bits, &value, 4);
    return bits;
}

// Calls a kernel with arguments as the CUDA driver takes them: a pointer to each.
template <int... Index>
struct ShimIndices {};
template <int N, int... Index>
struct ShimCount : ShimCount<N - 1, N - 1, Index...> {};
template <int... Index>
struct ShimCount<0, Index...> {
    typedef ShimIndices<Index...> Type;
};
template <typename... Parameters, int... Index>
static void shim_call(void (*kernel)(Parameters...), void** values, ShimIndices<Index...>) {
    kernel(*static_cast<Parameters*>(values[Index])...);
}
template <typename... Parameters>
static void shim_call(void (*kernel)(Parameters...), void** values) {
    shim_call(kernel, values, typename ShimCount<sizeof...(Parameters)>::Type());
}
template <typename... Parameters>
static int shim_count(void (*)(Parameters...)) {
    return sizeof...(Parameters);
}

#define SHIM_ENTRY(kernel)                                               \
    void shim_body(void** values) { shim_call(kernel, values); }         \
    extern "C" __attribute__((visibility("default"))) int shim_parameters() { return shim_count(kernel); }
