// Keys made of several positions, by a softmax over them in every column: those that end at rows,
// and zeros for other rows. What is summed lies in the cache as keys of one head, scores as values.
#version 450
#include "common.glsl"
#include "caches.glsl"
layout(local_size_x = 64) in;
layout(constant_id = 0) const uint KEYS = 0;
layout(constant_id = 1) const uint VALUES = 0;
layout(constant_id = 2) const uint RATIO = 4;
layout(constant_id = 3) const bool OVERLAPS = false;  // twice as many positions, of two halves
layout(push_constant) uniform Arguments {
    Run run;
    uint64_t pages;
    F32 ape, y;
    uint ldy, width, n, key_bytes, page_bytes, cache, n_caches;
};

void main() {
    uint i = column(), row = gl_WorkGroupID.y;
    if (row >= run.n_tokens || i >= n) return;
    uint segment = segment_of(run, row), end = uint(position_of(run, segment, row)) + 1;
    float top = -1e30, total = 0, value = 0;
    if (end % RATIO != 0) {
        y.v[row * ldy + i] = 0;
        return;
    }
    uint last = end - RATIO, first = OVERLAPS ? last - min(last, RATIO) : last;
    for (uint s = first; s < end; s++) {
        uint64_t page = page_of(run, segment, n_caches, cache, s / PAGE, pages, page_bytes);
        uint cell = s % PAGE, at = OVERLAPS && s >= last ? n + i : i;
        float score = load_number(VALUES, page + key_bytes, cell * width + at);
        score += ape.v[s % RATIO * width + at];
        float before = top;
        top = max(top, score);
        float kept = exp(before - top), weight = exp(score - top);
        total = total * kept + weight;
        value = value * kept + weight * load_number(KEYS, page, at * PAGE + cell);
    }
    y.v[row * ldy + i] = value / total;
}
