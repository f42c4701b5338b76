// y = x + (gate + shift) * source, gate being one number for each row.
#version 450
#include "common.glsl"
layout(local_size_x = 64) in;
layout(push_constant) uniform Arguments {
    U32 rows;
    F32 x, gate, source, y;
    uint ldx, ldg, lds, ldy, width;
    float shift;
};

void main() {
    uint i = column(), row = gl_WorkGroupID.y;
    if (row >= rows.v[0] || i >= width) return;
    float factor = gate.v[row * ldg] + shift;
    y.v[row * ldy + i] = x.v[row * ldx + i] + factor * source.v[row * lds + i];
}
