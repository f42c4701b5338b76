// y = x / sqrt(mean(x^2) + eps) * w over each `group` columns, or, if LAYER, of x - mean(x).
#version 450
#include "common.glsl"
#include "sum64.glsl"
layout(local_size_x = 64) in;
layout(constant_id = 0) const bool LAYER = false;
layout(constant_id = 1) const bool SCALED = true;
layout(constant_id = 2) const bool SHIFTED = false;
layout(push_constant) uniform Arguments {
    U32 rows;
    F32 x, y, w, b;
    uint ldx, ldy, group;
    float eps;
};

void main() {
    uint row = gl_WorkGroupID.y, first = group_of_row() * group, lane = gl_LocalInvocationID.x;
    if (row >= rows.v[0]) return;
    uint from = row * ldx + first, to = row * ldy + first;
    float mean = 0, sum = 0;
    if (LAYER) {
        for (uint i = lane; i < group; i += 64) sum += x.v[from + i];
        mean = sum64(sum) / group;
        sum = 0;
    }
    for (uint i = lane; i < group; i += 64) {
        float v = x.v[from + i] - mean;
        sum += v * v;
    }
    float factor = 1 / sqrt(sum64(sum) / group + eps);
    for (uint i = lane; i < group; i += 64) {
        float v = (x.v[from + i] - mean) * factor;
        if (SCALED) v *= w.v[i];
        if (SHIFTED) v += b.v[i];
        y.v[to + i] = v;
    }
}
