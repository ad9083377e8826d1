// Element types, 128-bit access and activations: what every kernel shares. Tensors are NHWC, arithmetic is in float.
#pragma once

typedef float Float32;
struct Float16 {
    unsigned short bits;
};
struct BFloat16 {
    unsigned short bits;
};

__device__ __forceinline__ float to_float(Float32 x) { return x; }
__device__ __forceinline__ void from_float(float x, Float32& y) { y = x; }

// bfloat16 is the upper half of a float; rounded to nearest even, and a NaN stays one.
__device__ __forceinline__ float to_float(BFloat16 x) { return __uint_as_float((unsigned)x.bits << 16); }
__device__ __forceinline__ void from_float(float x, BFloat16& y) {
    const unsigned bits = __float_as_uint(x);
    y.bits = (unsigned short)(x != x ? 0x7fffu : (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

#ifdef __CUDACC__
// The instructions themselves: cuda_fp16.h is a header that a machine with only NVRTC may not have.
__device__ __forceinline__ float to_float(Float16 x) {
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
    return y;
}
__device__ __forceinline__ void from_float(float x, Float16& y) {
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
}
#else  // the shim that runs kernels on the CPU has functions for them
__device__ __forceinline__ float to_float(Float16 x) { return half_value(x.bits); }
__device__ __forceinline__ void from_float(float x, Float16& y) { y.bits = half_bits(x); }
#endif

#ifdef ELEMENT
typedef ELEMENT Element;
#endif

// V neighbours as one access of up to 16 bytes; an address is a multiple of V elements.
template <typename T, int V>
struct alignas(sizeof(T) * V) Pack {
    T at[V];
};

template <typename T, int V>
__device__ __forceinline__ void load(const T* from, float (&to)[V]) {
    const Pack<T, V> pack = *reinterpret_cast<const Pack<T, V>*>(from);
#pragma unroll
    for (int i = 0; i < V; ++i) to[i] = to_float(pack.at[i]);
}

// As they are.
template <typename T, int V>
__device__ __forceinline__ void take(const T* from, T (&to)[V]) {
    const Pack<T, V> pack = *reinterpret_cast<const Pack<T, V>*>(from);
#pragma unroll
    for (int i = 0; i < V; ++i) to[i] = pack.at[i];
}

template <typename T, int V>
__device__ __forceinline__ void give(const T (&from)[V], T* to) {
    Pack<T, V> pack;
#pragma unroll
    for (int i = 0; i < V; ++i) pack.at[i] = from[i];
    *reinterpret_cast<Pack<T, V>*>(to) = pack;
}

template <typename A, typename B>
struct Same {
    static constexpr bool value = false;
};
template <typename A>
struct Same<A, A> {
    static constexpr bool value = true;
};

// Zeros where there is nothing to load; as they are if `Value` is their type, else as floats.
template <typename Value, typename T, int V>
__device__ __forceinline__ void load_if(bool inside, const T* from, Value (&to)[V]) {
    if (inside) {
        if constexpr (Same<Value, T>::value)
            take(from, to);
        else
            load(from, to);
    } else {
#pragma unroll
        for (int i = 0; i < V; ++i) to[i] = Value{};
    }
}

template <typename T, int V>
__device__ __forceinline__ void store(T* to, const float (&from)[V]) {
    Pack<T, V> pack;
#pragma unroll
    for (int i = 0; i < V; ++i) from_float(from[i], pack.at[i]);
    *reinterpret_cast<Pack<T, V>*>(to) = pack;
}

// Where an element of a dense tensor of so many channels lies in one with `pitch` elements from pixel to pixel.
__device__ __forceinline__ unsigned spread(unsigned at, unsigned channels, unsigned pitch) {
    return channels == pitch ? at : at / channels * pitch + at % channels;
}

#define LOWEST (-__uint_as_float(0x7f800000u))  // minus infinity: NVRTC has no INFINITY

// A larger value or a NaN wins, as in PyTorch.
__device__ __forceinline__ float larger(float a, float b) { return a > b || a != a ? a : b; }

__device__ __forceinline__ float clip(float x, float low, float high) { return x < low ? low : x > high ? high : x; }

// In the order of the catalogue's codes. PRELU: b is the slope of what is below zero.
enum Operation { ADD, MUL, SUB, DIV, PRELU };

template <int KIND>
__device__ __forceinline__ float combined(float a, float b) {
    switch (KIND) {
        case MUL: return a * b;
        case SUB: return a - b;
        case DIV: return a / b;
        case PRELU: return a > 0.0f ? a : a * b;
        default: return a + b;
    }
}

// In the order of the catalogue's codes.
enum Activation { NONE, RELU, RELU6, SIGMOID, TANH, SILU, GELU, HARD_SIGMOID, HARD_SWISH, ELU, LEAKY_RELU };

template <int KIND>
__device__ __forceinline__ float activated(float x, float parameter) {
    switch (KIND) {
        case RELU: return x < 0.0f ? 0.0f : x;
        case RELU6: return clip(x, 0.0f, 6.0f);
        case SIGMOID: return 1.0f / (1.0f + expf(-x));
        case TANH: return tanhf(x);
        case SILU: return x / (1.0f + expf(-x));
        case GELU: return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
        case HARD_SIGMOID: return clip(x / 6.0f + 0.5f, 0.0f, 1.0f);
        case HARD_SWISH: return x * clip(x / 6.0f + 0.5f, 0.0f, 1.0f);
        case ELU: return x > 0.0f ? x : parameter * expm1f(x);
        case LEAKY_RELU: return x > 0.0f ? x : parameter * x;
        default: return x;
    }
}

// A constant of the compilation: a branch for each element, or eleven bodies for each, would cost more than variants.
template <int KIND, int V>
__device__ __forceinline__ void activate(float (&x)[V], float parameter = 0.0f) {
#pragma unroll
    for (int i = 0; i < V; ++i) x[i] = activated<KIND>(x[i], parameter);
}
