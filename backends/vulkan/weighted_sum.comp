// y[r] = sum over j of weights[r, j] * x[r * k + j], or the sum of x alone.
#version 450
#include "common.glsl"
layout(local_size_x = 64) in;
layout(constant_id = 0) const bool WEIGHED = true;
layout(push_constant) uniform Arguments {
    U32 rows;
    F32 x, weights, y;
    uint ldx, ldy, width, k;
};

void main() {
    uint i = column(), row = gl_WorkGroupID.y;
    if (row >= rows.v[0] || i >= width) return;
    float sum = 0;
    for (uint j = 0; j < k; j++)
        sum += x.v[(row * k + j) * ldx + i] * (WEIGHED ? weights.v[row * k + j] : 1);
    y.v[row * ldy + i] = sum;
}
