// A function of one element, activation fused.
// Access: each thread takes one 16-byte vector, neighbours side by side; the last one takes what is left.
// Options: ELEMENT, VECTOR (16 bytes), FUNCTION, ACTIVATION.
#include "element.cuh"

// In the order of the catalogue's codes. a, b: scale and offset, bounds, exponent.
enum Function {
    AFFINE, CLAMP, POWER, EXP, LOG, SQRT, RSQRT, ABS, RECIPROCAL, ERF, SIN, COS, FLOOR, CEIL, SOFTPLUS, MISH, SELU,
    SOFTSIGN, LOG_SIGMOID, GELU_TANH
};

__device__ __forceinline__ float softplus(float x) { return x > 20.0f ? x : log1pf(expf(x)); }

__device__ __forceinline__ float applied(float x, float a, float b) {
    switch (FUNCTION) {
        case AFFINE: return fmaf(x, a, b);
        case CLAMP: return clip(x, a, b);
        case POWER: return a == 2.0f ? x * x : powf(x, a);
        case EXP: return expf(x);
        case LOG: return logf(x);
        case SQRT: return sqrtf(x);
        case RSQRT: return 1.0f / sqrtf(x);
        case ABS: return fabsf(x);
        case RECIPROCAL: return 1.0f / x;
        case ERF: return erff(x);
        case SIN: return sinf(x);
        case COS: return cosf(x);
        case FLOOR: return floorf(x);
        case CEIL: return ceilf(x);
        case SOFTPLUS: return softplus(x);
        case MISH: return x * tanhf(softplus(x));
        case SELU: return 1.0507009873554805f * (x > 0.0f ? x : 1.6732632423543772f * expm1f(x));
        case SOFTSIGN: return x / (1.0f + fabsf(x));
        case LOG_SIGMOID: return (x < 0.0f ? x : 0.0f) - log1pf(expf(-fabsf(x)));
        case GELU_TANH: return 0.5f * x * (1.0f + tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x)));
        default: return x;
    }
}

extern "C" __global__ void unary(const Element* __restrict__ in, Element* __restrict__ out, unsigned count, float a,
                                 float b) {
    const unsigned first = (blockIdx.x * blockDim.x + threadIdx.x) * VECTOR;
    if (first >= count) return;
    if (count - first >= VECTOR) {
        float values[VECTOR];
        load(in + first, values);
#pragma unroll
        for (int i = 0; i < VECTOR; ++i) values[i] = applied(values[i], a, b);
        activate<ACTIVATION>(values);
        store(out + first, values);
        return;
    }
    for (unsigned at = first; at < count; ++at) {
        float value[1] = {applied(to_float(in[at]), a, b)};
        activate<ACTIVATION>(value);
        store(out + at, value);
    }
}
