// y[t, h] = row number (hash h of the last tokens of row t) of a table of a tensor type. The
// workgroup of a segment's last row writes the state behind it: 1 + token of the last ones.
#version 450
#include "common.glsl"
#include "run.glsl"
#include "states.glsl"
#include "types/type.glsl"  // becomes the file of a type
layout(local_size_x = 64) in;
layout(constant_id = 0) const uint LONGEST = 2;
layout(constant_id = 1) const uint HASHES = 1;
layout(buffer_reference, std430, buffer_reference_align = 8) buffer I64 { int64_t v[]; };
layout(push_constant) uniform Arguments {
    Run run;
    I32 tokens;
    uint64_t w;
    I64 hashes;  // LONGEST multipliers, then HASHES sizes and offsets
    uint64_t states;
    F32 y;
    uint ldy, width, row_bytes, spans, end, slot_bytes;
};

// The token at row `at`, -1 before a sequence's first.
int token_at(int at, int first, uint64_t before) {
    if (at >= first) return tokens.v[at];
    if (before != 0) return int(F32(before).v[first - at - 1]) - 1;
    return -1;
}

// The row for hash h; a token before the sequence, or `end`, makes all before it `end`.
uint64_t number(uint h, int row, int first, uint64_t before) {
    int64_t mixed = hashes.v[0] * token_at(row, first, before);
    bool cut = false;
    for (uint j = 1; j < 2 + h / (HASHES / (LONGEST - 1)); j++) {
        int token = cut ? -1 : token_at(row - int(j), first, before);
        cut = token < 0 || token == int(end);
        mixed ^= hashes.v[j] * (cut ? int(end) : token);
    }
    uint64_t size = uint64_t(hashes.v[LONGEST + h]);
    return uint64_t(mixed) % size + uint64_t(hashes.v[LONGEST + HASHES + h]);
}

void main() {
    uint row = gl_WorkGroupID.y, lane = gl_LocalInvocationID.x;
    if (row >= run.n_tokens) return;
    uint segment = segment_of(run, row), h = group_of_row() / spans;
    int first = word_of(run, segment, ROW), own = int(row);
    uint64_t before = state_before(run, segment, states, slot_bytes);
    bool last = own + 1 == first + word_of(run, segment, ROWS);
    if (last && group_of_row() == 0 && lane + 1 < LONGEST) {
        F32 behind = F32(state_behind(run, segment, states, slot_bytes));
        behind.v[lane] = float(token_at(own - int(lane), first, before) + 1);
    }
    uint part = group_of_row() % spans * 64 + lane, to = row * ldy + h * width + part * 32;
    if (part * 32 >= width) return;
    float z[32];
    unpack(w + number(h, own, first, before) * row_bytes, part, width, z);
    for (uint i = 0; i < 32 && part * 32 + i < width; i++) y.v[to + i] = z[i];
}
