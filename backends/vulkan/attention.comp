// One query head a workgroup: 64 keys at a time, a lane for each, and a running softmax.
#version 450
#include "common.glsl"
#include "caches.glsl"
#include "activations.glsl"
#include "sum64.glsl"
layout(local_size_x = 64) in;
layout(constant_id = 0) const uint KEYS = 0;
layout(constant_id = 1) const uint VALUES = 0;
layout(constant_id = 2) const uint DK = 64;
layout(constant_id = 3) const uint DV = 64;
layout(constant_id = 4) const bool CAUSAL = true;
layout(constant_id = 5) const bool CHUNKED = false;
layout(constant_id = 6) const bool CROSS = false;
layout(constant_id = 7) const bool ALONE = false;  // keys and values are rows of this run
layout(constant_id = 8) const bool SINKS = false;
layout(constant_id = 9) const bool SLOPES = false;
layout(constant_id = 10) const uint REACH = 0;     // columns of a table of distances, or 0
layout(push_constant) uniform Arguments {
    Run run;
    F32 q, y;
    uint64_t pages, values;  // ALONE: the rows of k and v
    F32 sinks, terms;        // terms: slopes [H], or the table [H, REACH]
    uint ldq, ldy, heads_per_key, head_bytes, key_bytes, page_bytes, caches, window;
    float scale, cap;        // caches: number of this one, and of all, 16 bits each
    uint ldk, ldv;
};
const uint SUMS = DV;
#include "query.glsl"
shared float weights[64];

void main() {
    uint lane = gl_LocalInvocationID.x, row = gl_WorkGroupID.y, head = group_of_row();
    if (row >= run.n_tokens) return;
    uint group = head / heads_per_key, segment = segment_of(run, row);
    int first_row = word_of(run, segment, ROW), start = word_of(run, segment, POSITION);
    int end = CROSS ? word_of(run, segment, N_CROSS) : start + word_of(run, segment, ROWS);
    int position = start + int(row) - first_row, near = int(window), lo = 0, hi = end;
    if (!CROSS) {
        if (CAUSAL) hi = position + 1;
        else if (near > 0) hi = min(end, position + near / 2 + 1);
        if (near > 0 && CHUNKED) lo = position - position % near;
        else if (near > 0) lo = max(0, position - (CAUSAL ? near - 1 : near / 2));
        if (ALONE) lo = max(lo, start);
    }
    for (uint i = lane; i < DK; i += 64) numbers[i] = q.v[row * ldq + head * DK + i];
    for (uint i = lane; i < DV; i += 64) numbers[DK + i] = 0;
    float top = SINKS ? sinks.v[head] : -1e30, total = SINKS ? 1 : 0;
    barrier();
    rotate(0, DK, ALONE ? 0 : hadamard_of_keys(KEYS, DK));
    for (int block = lo / 64; block * 64 < hi; block++) {
        int key = block * 64 + int(lane);
        bool seen = key >= lo && key < hi;
        uint64_t page = 0;
        if (!ALONE)
            page = page_of(run, segment, caches & 0xffff, caches >> 16, uint(block), pages,
                           page_bytes) + group * head_bytes;
        float score = 0;
        if (seen) {
            if (ALONE) {
                uint from = uint(first_row + key - start) * ldk + group * DK;
                for (uint i = 0; i < DK; i++) score += numbers[i] * F32(pages).v[from + i];
            } else {
                score = score_of(page + lane * item_bytes(KEYS));
            }
            score *= scale;
            if (cap > 0) score = cap * tanh_(score / cap);
            if (SLOPES) score -= terms.v[head] * abs(position - key);
            if (REACH > 0) {
                int reach = int(REACH) / 2;
                score += terms.v[head * REACH + uint(clamp(key - position, -reach, reach) + reach)];
            }
        }
        float before = top;
        top = max(top, max64(seen ? score : -1e30));
        float kept = exp(before - top), weight = seen ? exp(score - top) : 0;
        weights[lane] = weight;
        total = total * kept + sum64(weight);
        int from = max(lo - block * 64, 0), until = min(hi - block * 64, 64);
        for (uint i = lane; i < DV; i += 64) {
            float part = 0;
            for (int j = from; j < until; j++) {
                float value = ALONE
                    ? F32(values).v[uint(first_row + block * 64 + j - start) * ldv + group * DV + i]
                    : number_of(VALUES, page + key_bytes + j * row_bytes(VALUES, DV), 1, i);
                part += weights[j] * value;
            }
            numbers[DK + i] = numbers[DK + i] * kept + part;
        }
        barrier();
    }
    rotate(DK, DV, ALONE ? 0 : hadamard_of_values(VALUES, DV));
    for (uint i = lane; i < DV; i += 64)
        y.v[row * ldy + head * DV + i] = total > 0 ? numbers[DK + i] / total : 0;
}
