// Sums of squares of the rows of x that each expert gets, and their numbers: a workgroup for 64
// columns of an expert. Slot s has row s / fan.
#version 450
#include "common.glsl"
layout(local_size_x = 64) in;
layout(constant_id = 0) const bool WEIGHED = false;
layout(push_constant) uniform Arguments {
    U32 slots, ids;
    F32 x, weights, sums;
    U32 counts;
    uint ldx, width, fan, spans;  // spans: workgroups of an expert
};

void main() {
    uint expert = group_of_row() / spans, n = 0;
    uint i = group_of_row() % spans * 64 + gl_LocalInvocationID.x;
    float sum = 0;
    for (uint s = 0; s < slots.v[0]; s++) {
        if (ids.v[s] != expert) continue;
        float y = i < width ? x.v[s / fan * ldx + i] : 0;
        if (WEIGHED) y *= weights.v[s];
        sum += y * y;
        n++;
    }
    if (i < width) sums.v[expert * width + i] = sum;
    if (i == 0) counts.v[expert] = n;
}
