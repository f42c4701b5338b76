// Writes keys and values of a run's rows to the pages of a layer: for each head keys [dk, 64],
// then values [64, dv].
#version 450
#include "common.glsl"
#include "caches.glsl"
layout(local_size_x = 64) in;
layout(constant_id = 0) const uint KEYS = 0;
layout(constant_id = 1) const uint VALUES = 0;
layout(push_constant) uniform Arguments {
    Run run;
    F32 k, v;
    uint64_t pages;
    uint ldk, ldv, heads, dk, dv, head_bytes, key_bytes, page_bytes, cache, n_caches;
};

void main() {
    uint i = column(), row = gl_WorkGroupID.y;
    if (row >= run.n_tokens || i >= heads * (dk + dv)) return;
    uint segment = segment_of(run, row), position = uint(position_of(run, segment, row));
    uint64_t page = page_of(run, segment, n_caches, cache, position / PAGE, pages, page_bytes);
    uint cell = position % PAGE;
    if (i < heads * dk) {
        uint64_t base = page + i / dk * head_bytes;
        store_number(KEYS, base, i % dk * PAGE + cell, k.v[row * ldk + i]);
    } else {
        i -= heads * dk;
        uint64_t base = page + i / dv * head_bytes + key_bytes;
        store_number(VALUES, base, cell * dv + i % dv, v.v[row * ldv + i]);
    }
}
