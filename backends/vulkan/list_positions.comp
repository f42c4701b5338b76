// Positions that a row at p reads without a choice: s <= p behind p - window, (s + 1) % stride = 0;
// then -1.
#version 450
#include "common.glsl"
layout(local_size_x = 64) in;
layout(push_constant) uniform Arguments {
    U32 rows;
    I32 positions;
    F32 y;
    uint ldy, most, window, stride;
};

void main() {
    uint i = column(), row = gl_WorkGroupID.y;
    if (row >= rows.v[0] || i >= most) return;
    uint position = uint(positions.v[row]), first = 0;
    if (window > 0 && position >= window) first = position - window + 1;
    uint s = (first / stride + 1) * stride - 1 + i * stride;
    y.v[row * ldy + i] = s <= position ? float(s) : -1;
}
