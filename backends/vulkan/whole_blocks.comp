// All positions of the blocks whose last ones x has, those behind the last whole block, then -1.
#version 450
#include "common.glsl"
layout(local_size_x = 64) in;
layout(push_constant) uniform Arguments {
    U32 rows;
    I32 positions;
    F32 x, y;
    uint ldx, ldy, most, block;
};

// How many of the first numbers are not negative; all others are.
uint count(uint from) {
    uint low = 0, high = most;
    while (low < high) {
        uint middle = (low + high) / 2;
        if (x.v[from + middle] >= 0) low = middle + 1;
        else high = middle;
    }
    return low;
}

void main() {
    uint i = column(), row = gl_WorkGroupID.y;
    if (row >= rows.v[0] || i >= most * block + block - 1) return;
    uint position = uint(positions.v[row]), n = count(row * ldx), number = i / block;
    float value = -1;
    if (number < n) {
        value = x.v[row * ldx + number] - float(block - 1 - i % block);
    } else {
        uint s = (position + 1) / block * block + i - n * block;
        if (s <= position) value = float(s);
    }
    y.v[row * ldy + i] = value;
}
