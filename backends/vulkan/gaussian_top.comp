// y = max(x - mean - deviations * std, 0) of each row, std with width - 1.
#version 450
#include "common.glsl"
#include "sum64.glsl"
layout(local_size_x = 64) in;
layout(push_constant) uniform Arguments {
    U32 rows;
    F32 x, y;
    uint ldx, ldy, width;
    float deviations;
};

void main() {
    uint row = gl_WorkGroupID.y, lane = gl_LocalInvocationID.x, from = row * ldx;
    if (row >= rows.v[0]) return;
    float sum = 0;
    for (uint i = lane; i < width; i += 64) sum += x.v[from + i];
    float mean = sum64(sum) / width;
    sum = 0;
    for (uint i = lane; i < width; i += 64) {
        float v = x.v[from + i] - mean;
        sum += v * v;
    }
    float cut = mean + deviations * sqrt(sum64(sum) / (width - 1));
    for (uint i = lane; i < width; i += 64) y.v[row * ldy + i] = max(x.v[from + i] - cut, 0);
}
