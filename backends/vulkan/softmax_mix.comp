// A step of a mean of several values, weighted by the softmax of their scores: adds x, of which
// each row has one score, to y. `before` and `after` are two numbers for each row: the highest
// score so far, and the sum of weights relative to it.
#version 450
#include "common.glsl"
layout(local_size_x = 64) in;
layout(constant_id = 0) const bool FIRST = false;
layout(constant_id = 1) const bool LAST = false;
layout(push_constant) uniform Arguments {
    U32 rows;
    F32 x, score, before, after, y;
    uint ldx, lds, ldm, ldy, width;
};

void main() {
    uint i = column(), row = gl_WorkGroupID.y;
    if (row >= rows.v[0] || i >= width) return;
    float top = score.v[row * lds], total = 1, value = x.v[row * ldx + i];
    if (!FIRST) {
        float own = top, old = before.v[row * ldm];
        top = max(own, old);
        float kept = exp(old - top), added = exp(own - top);
        total = before.v[row * ldm + 1] * kept + added;
        value = y.v[row * ldy + i] * kept + value * added;
    }
    y.v[row * ldy + i] = LAST ? value / total : value;
    if (i == 0) {
        after.v[row * ldm] = top;
        after.v[row * ldm + 1] = total;
    }
}
