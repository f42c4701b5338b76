// Scores of positions for sparse attention: y[t, i] = sum over heads of w * scale * max(0, q . k)
// of position (i + 1) * STRIDE - 1. Rows that see no more than top_k of them need none, get none.
#version 450
#include "common.glsl"
#include "caches.glsl"
layout(local_size_x = 64) in;
layout(constant_id = 0) const uint KEYS = 0;
layout(constant_id = 1) const uint DK = 64;
layout(constant_id = 2) const uint HEADS = 1;
layout(constant_id = 3) const bool WEIGHED = false;
layout(constant_id = 4) const uint STRIDE = 1;
layout(push_constant) uniform Arguments {
    Run run;
    F32 q, w;
    uint64_t pages;
    F32 y;
    uint ldq, ldw, ldy, top_k, page_bytes, cache, n_caches;
    float scale;
};

void main() {
    uint s = column(), row = gl_WorkGroupID.y;
    if (row >= run.n_tokens) return;
    uint segment = segment_of(run, row), end = uint(position_of(run, segment, row)) + 1;
    if (s >= end || end / STRIDE <= top_k || (s + 1) % STRIDE != 0) return;
    uint64_t page = page_of(run, segment, n_caches, cache, s / PAGE, pages, page_bytes);
    uint64_t key = page + s % PAGE * item_bytes(KEYS);
    float total = 0;
    for (uint h = 0; h < HEADS; h++) {
        float product = 0, weight = scale;
        for (uint i = 0; i < DK; i++)
            product += q.v[row * ldq + h * DK + i] * number_of(KEYS, key, PAGE, i);
        if (WEIGHED) weight *= w.v[row * ldw + h];
        total += max(product, 0) * weight;
    }
    y.v[row * ldy + s / STRIDE] = total;
}
