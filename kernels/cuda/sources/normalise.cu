// Layer and group norm: each group of elements less its mean, over its standard deviation, times weight plus bias;
// activation fused. A group's elements are `rows` x `columns`, by two strides each for the tensor and the weights.
// Access: a block makes one group: two passes for mean and variance (a sum of squares would cancel), one to write.
// Options: ELEMENT, ACTIVATION. Block: whole warps. Grid: groups.
#include "element.cuh"
#include "reduce.cuh"

extern "C" __global__ void normalise(const Element* __restrict__ in, const Element* __restrict__ weight,
                                     const Element* __restrict__ bias, Element* __restrict__ out, int inner_groups,
                                     int outer_pitch, int inner_pitch, int rows, int columns, int row_stride,
                                     int column_stride, int weight_pitch, int weight_row, int weight_column,
                                     float eps) {
    __shared__ float partial[32];
    const int inner = blockIdx.x % inner_groups, count = rows * columns;
    const int first = blockIdx.x / inner_groups * outer_pitch + inner * inner_pitch;
    const auto add = [](float a, float b) { return a + b; };
    const auto place = [&](int i) { return first + i / columns * row_stride + i % columns * column_stride; };
    float sum = 0.0f;
    for (int i = threadIdx.x; i < count; i += blockDim.x) sum += to_float(in[place(i)]);
    const float mean = block_reduce(sum, partial, add) / (float)count;
    sum = 0.0f;
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
        const float difference = to_float(in[place(i)]) - mean;
        sum = fmaf(difference, difference, sum);
    }
    const float scale = 1.0f / sqrtf(block_reduce(sum, partial, add) / (float)count + eps);
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
        const int row = i / columns, column = i % columns, at = place(i);
        const int parameter = inner * weight_pitch + row * weight_row + column * weight_column;
        float value[1] = {(to_float(in[at]) - mean) * scale};
        value[0] = fmaf(value[0], to_float(weight[parameter]), to_float(bias[parameter]));
        activate<ACTIVATION>(value);
        store(out + at, value);
    }
}
