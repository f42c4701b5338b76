// y = sum over s of gates[s] * stream s; streams of `width` columns lie side by side.
#version 450
#include "common.glsl"
layout(local_size_x = 64) in;
layout(constant_id = 0) const uint S = 4;
layout(push_constant) uniform Arguments {
    U32 rows;
    F32 x, gates, y;
    uint ldx, ldg, ldy, width;
};

void main() {
    uint i = column(), row = gl_WorkGroupID.y;
    if (row >= rows.v[0] || i >= width) return;
    float sum = 0;
    for (uint s = 0; s < S; s++) sum += x.v[row * ldx + s * width + i] * gates.v[row * ldg + s];
    y.v[row * ldy + i] = sum;
}
