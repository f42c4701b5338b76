// Heads times Hadamard matrices, as caches of quantized types have theirs; y may be x.
#version 450
#include "common.glsl"
layout(local_size_x = 64) in;
layout(constant_id = 0) const uint WIDTH = 64;
layout(constant_id = 1) const uint SIZE = 64;  // columns of a matrix
layout(push_constant) uniform Arguments {
    U32 rows;
    F32 x, y;
    uint ldx, ldy;
};
const uint ROOM = WIDTH;
#include "hadamard.glsl"

void main() {
    uint row = gl_WorkGroupID.y, first = group_of_row() * WIDTH, lane = gl_LocalInvocationID.x;
    if (row >= rows.v[0]) return;
    for (uint i = lane; i < WIDTH; i += 64) numbers[i] = x.v[row * ldx + first + i];
    rotate(0, WIDTH, SIZE);
    for (uint i = lane; i < WIDTH; i += 64) y.v[row * ldy + first + i] = numbers[i];
}
