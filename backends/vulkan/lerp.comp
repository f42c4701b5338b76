// y[j] = a + (b - a) * (factors[j] + shifts[j]), for each `width` of the columns of y.
#version 450
#include "common.glsl"
layout(local_size_x = 64) in;
layout(constant_id = 0) const bool FACTORS = false;
layout(constant_id = 1) const bool SHIFTS = false;
layout(push_constant) uniform Arguments {
    U32 rows;
    F32 a, b, shifts, factors, y;
    uint lda, ldb, lds, ldy, width, columns;
};

void main() {
    uint i = column(), row = gl_WorkGroupID.y;
    if (row >= rows.v[0] || i >= columns) return;
    float at = 0, first = a.v[row * lda + i % width], last = b.v[row * ldb + i % width];
    if (FACTORS) at = factors.v[i];
    if (SHIFTS) at += shifts.v[row * lds + i];
    y.v[row * ldy + i] = first + (last - first) * at;
}
