// y = x, each `width` columns with the root mean square of `like`; the mean square of x counts as
// `least` where it is less.
#version 450
#include "common.glsl"
#include "sum64.glsl"
layout(local_size_x = 64) in;
layout(push_constant) uniform Arguments {
    U32 rows;
    F32 x, like, y;
    uint ldx, ldl, ldy, width;
    float least;
};

void main() {
    uint row = gl_WorkGroupID.y, lane = gl_LocalInvocationID.x;
    uint first = row * ldx + group_of_row() * width, to = row * ldy + group_of_row() * width;
    if (row >= rows.v[0]) return;
    float own = 0, target = 0;
    for (uint i = lane; i < width; i += 64) {
        float v = x.v[first + i], w = like.v[row * ldl + i];
        own += v * v;
        target += w * w;
    }
    own = max(sum64(own) / width, least);
    target = sum64(target) / width;
    float factor = sqrt(target / own);
    for (uint i = lane; i < width; i += 64) y.v[to + i] = x.v[first + i] * factor;
}
