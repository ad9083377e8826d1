// Attention: softmax(scale * q k^T + mask) v, one query a block; keys in chunks, the softmax kept up to date as they
// come (Milakov and Gimelshein, arXiv 1805.02867), so that no row of it is ever stored.
// Access: a thread makes the score of one key of a chunk, then some features of the sum over the chunk's values.
// Options: ELEMENT. Block: CHUNK threads. Grid: queries, matrices (two axes number them).
#include "element.cuh"
#include "reduce.cuh"

#define CHUNK 128
#define MOST_FEATURES 1024

extern "C" __global__ void attention(const Element* __restrict__ query, const Element* __restrict__ key,
                                     const Element* __restrict__ value, const Element* __restrict__ mask,
                                     Element* __restrict__ out, int keys, int features, int value_features, int inner,
                                     int causal, float scale, int query_outer, int query_inner, int query_row,
                                     int query_feature, int key_outer, int key_inner, int key_row, int key_feature,
                                     int value_outer, int value_inner, int value_row, int value_feature, int mask_outer,
                                     int mask_inner, int mask_row, int mask_column, int out_outer, int out_inner,
                                     int out_row, int out_feature) {
    __shared__ float scores[CHUNK], total[MOST_FEATURES], partial[32];
    const int row = blockIdx.x, outer_index = blockIdx.y / inner, inner_index = blockIdx.y % inner;
    query += outer_index * query_outer + inner_index * query_inner + row * query_row;
    key += outer_index * key_outer + inner_index * key_inner;
    value += outer_index * value_outer + inner_index * value_inner;
    out += outer_index * out_outer + inner_index * out_inner + row * out_row;
    if (mask) mask += outer_index * mask_outer + inner_index * mask_inner + row * mask_row;
    const int end = causal ? min(keys, row + 1) : keys;
    for (int f = threadIdx.x; f < value_features; f += CHUNK) total[f] = 0.0f;
    float most = LOWEST, sum = 0.0f;
    for (int first = 0; first < end; first += CHUNK) {
        const int mine = first + threadIdx.x;
        float score = LOWEST;
        if (mine < end) {
            score = 0.0f;
            for (int f = 0; f < features; ++f)
                score = fmaf(to_float(query[f * query_feature]),
                             to_float(key[mine * key_row + f * key_feature]), score);
            score = score * scale + (mask ? to_float(mask[mine * mask_column]) : 0.0f);
        }
        const float highest = larger(block_reduce(score, partial, [](float a, float b) { return larger(a, b); }), most);
        // Before the first key that is not masked out, there is nothing to scale.
        const float shrunk = most == highest ? 1.0f : expf(most - highest);
        const float weight = score == LOWEST ? 0.0f : expf(score - highest);
        scores[threadIdx.x] = weight;
        sum = sum * shrunk + block_reduce(weight, partial, [](float a, float b) { return a + b; });
        most = highest;
        for (int f = threadIdx.x; f < value_features; f += CHUNK) {
            float result = total[f] * shrunk;
            for (int i = 0; i < min(CHUNK, end - first); ++i)
                result = fmaf(scores[i], to_float(value[(first + i) * value_row + f * value_feature]), result);
            total[f] = result;
        }
    }
    for (int f = threadIdx.x; f < value_features; f += CHUNK) from_float(total[f] / sum, out[f * out_feature]);
}
