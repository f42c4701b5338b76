// y[t] = act(sum over j of w[j] * x[t - (TAPS - 1) + j] + bias), for each column. Rows need nothing
// of each other, and that of a segment's last row writes the state, [TAPS - 1, width].
#version 450
#include "common.glsl"
#include "run.glsl"
#include "states.glsl"
#include "activations.glsl"
layout(local_size_x = 64) in;
layout(constant_id = 0) const uint TAPS = 4;
layout(constant_id = 1) const bool BIASED = false;
layout(constant_id = 2) const bool SILU = false;
layout(push_constant) uniform Arguments {
    Run run;
    F32 x, y, w, bias;
    uint64_t states;
    uint ldx, ldy, width, slot_bytes;
};

// Column i of row t of a segment; those below 0 are in the state before, zeros if it is at 0.
float earlier(uint first, int t, uint64_t before, uint i) {
    if (t >= 0) return x.v[(first + uint(t)) * ldx + i];
    if (before != 0) return F32(before).v[uint(int(TAPS) - 1 + t) * width + i];
    return 0;
}

void main() {
    uint i = column(), row = gl_WorkGroupID.y;
    if (row >= run.n_tokens || i >= width) return;
    uint segment = segment_of(run, row), first = uint(word_of(run, segment, ROW));
    uint64_t before = state_before(run, segment, states, slot_bytes);
    int t = int(row - first), start = t - int(TAPS) + 1;
    float sum = 0;
    for (uint j = 0; j < TAPS; j++)
        sum += earlier(first, start + int(j), before, i) * w.v[j * width + i];
    if (BIASED) sum += bias.v[i];
    if (SILU) sum *= sigmoid(sum);
    y.v[row * ldy + i] = sum;
    if (t + 1 < word_of(run, segment, ROWS)) return;
    F32 behind = F32(state_behind(run, segment, states, slot_bytes));
    for (uint j = 1; j < TAPS; j++)
        behind.v[(j - 1) * width + i] = earlier(first, start + int(j), before, i);
}
