// y = x + v * (the sum of r * k * factors over a head), a workgroup for a head.
#version 450
#include "common.glsl"
#include "sum64.glsl"
layout(local_size_x = 64) in;
layout(push_constant) uniform Arguments {
    U32 rows;
    F32 x, v, r, k, factors, y;
    uint ldx, ldv, ldr, ldk, ldy, dk, dv;
};

void main() {
    uint row = gl_WorkGroupID.y, head = group_of_row(), lane = gl_LocalInvocationID.x;
    if (row >= rows.v[0]) return;
    float share = 0;
    for (uint i = head * dk + lane; i < (head + 1) * dk; i += 64)
        share += r.v[row * ldr + i] * (k.v[row * ldk + i] * factors.v[i]);
    share = sum64(share);
    for (uint i = head * dv + lane; i < (head + 1) * dv; i += 64)
        y.v[row * ldy + i] = x.v[row * ldx + i] + v.v[row * ldv + i] * share;
}
