// Rows of a table of a tensor type, chosen by `ids`.
#version 450
#include "common.glsl"
#include "types/type.glsl"  // becomes the file of a type
layout(local_size_x = 64) in;
layout(push_constant) uniform Arguments {
    U32 rows, ids;
    uint64_t w;
    F32 y;
    uint ldy, width, row_bytes;
};

void main() {
    uint part = column(), row = gl_WorkGroupID.y;
    if (row >= rows.v[0] || part * 32 >= width) return;
    float z[32];
    unpack(w + uint64_t(ids.v[row]) * row_bytes, part, width, z);
    for (uint i = 0; i < 32 && part * 32 + i < width; i++) y.v[row * ldy + part * 32 + i] = z[i];
}
