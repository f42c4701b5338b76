// Attention to chosen positions, a query head a workgroup: 64 keys at a time, a lane for each, and
// a running softmax. `lists` has the first and the end column of what key heads read in `chosen`.
#version 450
#include "common.glsl"
#include "caches.glsl"
#include "sum64.glsl"
layout(local_size_x = 64) in;
layout(constant_id = 0) const uint KEYS = 0;
layout(constant_id = 1) const uint VALUES = 0;
layout(constant_id = 2) const uint DK = 64;
layout(constant_id = 3) const uint DV = 64;
layout(constant_id = 4) const bool KEYS_ONLY = false;  // values are the first columns of keys
layout(constant_id = 5) const bool JOINT = false;      // every query head reads all key heads
layout(constant_id = 6) const bool SINKS = false;
layout(push_constant) uniform Arguments {
    Run run;
    F32 q, chosen, y;
    uint64_t pages;
    F32 lists, sinks;
    uint ldq, ldc, ldy, n_kv_heads, heads_per_key, head_bytes, key_bytes, page_bytes, cache;
    uint n_caches;
    float scale;
};
const uint SUMS = KEYS_ONLY && KEYS >= Q8_0 ? DK : DV;  // what is turned back is whole keys
#include "query.glsl"
shared float weights[64];
shared uint64_t heads[64];  // where the head of a key begins in its page, 0 for no key
shared uint cells[64];

float value_of(uint64_t head, uint cell, uint i) {
    if (KEYS_ONLY) return number_of(KEYS, head + cell * item_bytes(KEYS), PAGE, i);
    return number_of(VALUES, head + key_bytes + cell * row_bytes(VALUES, DV), 1, i);
}

void main() {
    uint row = gl_WorkGroupID.y, own = group_of_row(), lane = gl_LocalInvocationID.x;
    if (row >= run.n_tokens) return;
    uint segment = segment_of(run, row), first = JOINT ? 0 : own / heads_per_key;
    float position = float(position_of(run, segment, row));
    for (uint i = lane; i < DK; i += 64) numbers[i] = q.v[row * ldq + own * DK + i];
    for (uint i = lane; i < SUMS; i += 64) numbers[DK + i] = 0;
    float top = SINKS ? sinks.v[own] : -1e30, total = SINKS ? 1 : 0;
    barrier();
    rotate(0, DK, hadamard_of_keys(KEYS, DK));
    for (uint group = first; group < (JOINT ? n_kv_heads : first + 1); group++) {
        uint start = uint(lists.v[2 * group]), end = uint(lists.v[2 * group + 1]);
        for (; start < end; start += 64) {
            float number = -1, score = 0;
            if (start + lane < end) number = chosen.v[row * ldc + start + lane];
            bool seen = number >= 0 && number <= position;
            uint s = seen ? uint(number) : 0;
            uint64_t head = 0;
            if (seen) {
                head = page_of(run, segment, n_caches, cache, s / PAGE, pages, page_bytes)
                       + group * head_bytes;
                score = score_of(head + s % PAGE * item_bytes(KEYS)) * scale;
            }
            float before = top;
            top = max(top, max64(seen ? score : -1e30));
            float kept = exp(before - top), weight = seen ? exp(score - top) : 0;
            weights[lane] = weight;
            heads[lane] = head;
            cells[lane] = s % PAGE;
            total = total * kept + sum64(weight);
            for (uint i = lane; i < SUMS; i += 64) {
                float part = 0;
                for (uint j = 0; j < 64; j++)
                    if (heads[j] != 0) part += weights[j] * value_of(heads[j], cells[j], i);
                numbers[DK + i] = numbers[DK + i] * kept + part;
            }
            barrier();
        }
    }
    rotate(DK, SUMS, KEYS_ONLY ? hadamard_of_keys(KEYS, DK) : hadamard_of_values(VALUES, DV));
    for (uint i = lane; i < DV; i += 64)
        y.v[row * ldy + own * DV + i] = total > 0 ? numbers[DK + i] / total : 0;
}
