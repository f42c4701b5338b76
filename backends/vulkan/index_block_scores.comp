// Scores of blocks of positions for sparse attention, a workgroup for a block and a head: the
// largest q . k of the block, or more than all others for the last LOCAL ones. Rows that see no
// more than top_k blocks get none.
#version 450
#include "common.glsl"
#include "caches.glsl"
#include "sum64.glsl"
layout(local_size_x = 64) in;
layout(constant_id = 0) const uint KEYS = 0;
layout(constant_id = 1) const uint DK = 64;
layout(constant_id = 2) const uint BLOCK = 64;
layout(constant_id = 3) const uint LOCAL = 1;
layout(push_constant) uniform Arguments {
    Run run;
    F32 q;
    uint64_t pages;
    F32 y;
    uint ldq, ldy, n_blocks, top_k, page_bytes, cache, n_caches;
};
const float HIGHEST = 3.4028234e38;

void main() {
    uint row = gl_WorkGroupID.y, lane = gl_LocalInvocationID.x;
    if (row >= run.n_tokens) return;
    uint head = group_of_row() / n_blocks, own = group_of_row() % n_blocks;
    uint segment = segment_of(run, row), position = uint(position_of(run, segment, row));
    uint last = position / BLOCK, from = row * ldq + head * DK;
    if (own > last || last < top_k) return;
    float best = -HIGHEST;
    for (uint s = own * BLOCK + lane; s < min((own + 1) * BLOCK, position + 1); s += 64) {
        uint64_t page = page_of(run, segment, n_caches, cache, s / PAGE, pages, page_bytes);
        uint64_t key = page + s % PAGE * item_bytes(KEYS);
        float product = 0;
        for (uint i = 0; i < DK; i++) product += q.v[from + i] * number_of(KEYS, key, PAGE, i);
        best = max(best, product);
    }
    best = max64(best);
    if (lane == 0) y.v[row * ldy + group_of_row()] = own + LOCAL > last ? HIGHEST : best;
}
