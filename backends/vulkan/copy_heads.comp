// Columns of every head: y[t, h, 0:n] = x[t, h, 0:n], heads lying x_step and y_step apart.
#version 450
#include "common.glsl"
layout(local_size_x = 64) in;
layout(push_constant) uniform Arguments {
    U32 rows;
    F32 x, y;
    uint ldx, ldy, x_step, y_step, n_heads, n;
};

void main() {
    uint i = column(), row = gl_WorkGroupID.y;
    if (row >= rows.v[0] || i >= n_heads * n) return;
    uint head = i / n, c = i % n;
    y.v[row * ldy + head * y_step + c] = x.v[row * ldx + head * x_step + c];
}
