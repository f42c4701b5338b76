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
layout(constant_id = 4) const uint WIDTH = 64;
layout(push_constant) uniform Arguments {
    Run run;
    uint64_t pages;
    F32 ape, y;
    uint ldy, n, key_bytes, page_bytes, cache, n_caches;
};
const uint ROOM = KEYS >= Q8_0 || VALUES >= Q8_0 ? WIDTH : 1;
#include "hadamard.glsl"

// Number i of a row that was multiplied with a matrix of `size` columns.
float turned(uint type, uint64_t row, uint step, uint size, uint i) {
    if (size == 0) return number_of(type, row, step, i);
    for (uint j = gl_LocalInvocationID.x; j < WIDTH; j += 64)
        numbers[j] = number_of(type, row, step, j);
    rotate(0, WIDTH, size);
    float x = numbers[i];
    barrier();
    return x;
}

void main() {
    uint i = column(), row = gl_WorkGroupID.y, own = min(i, n - 1);
    if (row >= run.n_tokens) return;
    uint segment = segment_of(run, row), end = uint(position_of(run, segment, row)) + 1;
    float top = -1e30, total = 0, value = 0;
    uint last = end - RATIO, first = OVERLAPS ? last - min(last, RATIO) : last;
    if (end % RATIO != 0) first = end;
    for (uint s = first; s < end; s++) {
        uint64_t page = page_of(run, segment, n_caches, cache, s / PAGE, pages, page_bytes);
        uint cell = s % PAGE, at = OVERLAPS && s >= last ? n + own : own;
        float score = turned(VALUES, page + key_bytes + cell * row_bytes(VALUES, WIDTH), 1,
                             hadamard_of_values(VALUES, WIDTH), at);
        score += ape.v[s % RATIO * WIDTH + at];
        float before = top;
        top = max(top, score);
        float kept = exp(before - top), weight = exp(score - top);
        total = total * kept + weight;
        value = value * kept + weight * turned(KEYS, page + cell * item_bytes(KEYS), PAGE,
                                               hadamard_of_keys(KEYS, WIDTH), at);
    }
    if (i < n) y.v[row * ldy + i] = first < end ? value / total : 0;
}
