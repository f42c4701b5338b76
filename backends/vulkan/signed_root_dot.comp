// y[t, g] = sign(z) sqrt(max(|z|, 1e-6)), z = scale * (a . b) over the `width` columns of a group.
#version 450
#include "common.glsl"
#include "sum64.glsl"
layout(local_size_x = 64) in;
layout(push_constant) uniform Arguments {
    U32 rows;
    F32 a, b, y;
    uint lda, ldb, ldy, width;
    float scale;
};

void main() {
    uint row = gl_WorkGroupID.y, group = group_of_row(), lane = gl_LocalInvocationID.x;
    if (row >= rows.v[0]) return;
    uint first = row * lda + group * width, second = row * ldb + group * width;
    float part = 0;
    for (uint i = lane; i < width; i += 64) part += a.v[first + i] * b.v[second + i];
    float product = sum64(part) * scale;
    if (lane == 0) y.v[row * ldy + group] = sign(product) * sqrt(max(abs(product), 1e-6));
}
