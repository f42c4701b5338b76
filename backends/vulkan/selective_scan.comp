// A state space for each column, with a decay for each of its numbers; a lane has a column. With
// s = softplus(steps): state = exp(a s) state + s x b, y = c . state + d x.
#version 450
#include "common.glsl"
#include "run.glsl"
#include "states.glsl"
#include "activations.glsl"
layout(local_size_x = 64) in;
layout(constant_id = 0) const uint N = 16;
layout(push_constant) uniform Arguments {
    Run run;
    F32 x, b, c, steps, y, a, d;
    uint64_t states;  // as a: [blocks, N, 16], a block being 16 columns
    uint ldx, ldb, ldc, lds, ldy, width, slot_bytes;
};

void main() {
    uint row = gl_WorkGroupID.y, end = end_of_segment(run, row), i = column();
    uint at = i / 16 * 16 * N + i % 16;
    if (row >= end || i / 16 > (width - 1) / 16) return;
    uint segment = segment_of(run, row);
    uint64_t before = state_before(run, segment, states, slot_bytes);
    F32 behind = F32(state_behind(run, segment, states, slot_bytes));
    float state[N], rates[N];
    [[unroll]] for (uint j = 0; j < N; j++) {
        state[j] = 0;
        rates[j] = a.v[at + 16 * j];
        if (before != 0 && i < width) state[j] = F32(before).v[at + 16 * j];
    }
    if (i < width) {  // else it is no column, but in the last block
        float skip = d.v[i];
        for (uint t = row; t < end; t++) {
            float value = x.v[t * ldx + i], time = softplus(steps.v[t * lds + i]), total = 0;
            [[unroll]] for (uint j = 0; j < N; j++) {
                state[j] = state[j] * exp(rates[j] * time) + b.v[t * ldb + j] * (value * time);
                total += state[j] * c.v[t * ldc + j];
            }
            y.v[t * ldy + i] = total + value * skip;
        }
    }
    [[unroll]] for (uint j = 0; j < N; j++) behind.v[at + 16 * j] = state[j];
}
