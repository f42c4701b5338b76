// y[o] = x[chosen[o]]
#version 450
#include "common.glsl"
layout(local_size_x = 64) in;
layout(push_constant) uniform Arguments {
    U32 rows, chosen;
    F32 x, y;
    uint ldx, ldy, width;
};

void main() {
    uint i = column(), row = gl_WorkGroupID.y;
    if (row < rows.v[0] && i < width) y.v[row * ldy + i] = x.v[chosen.v[row] * ldx + i];
}
