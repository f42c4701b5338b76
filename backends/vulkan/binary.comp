// y = f(a, b), element by element; b may be one row for all (ldb = 0), one number for each row
// (step = 0) or for each head (part columns share one).
#version 450
#include "common.glsl"
#include "activations.glsl"
layout(local_size_x = 64) in;
layout(constant_id = 0) const uint OP = 0;
layout(constant_id = 1) const uint ACT = 0;
layout(push_constant) uniform Arguments {
    U32 rows;
    F32 a, b, y;
    uint lda, ldb, ldy, width, part;
    float low, high;
};

float f(float s, float t) {
    switch (OP) {
    case 0: return s + t;
    case 1: return s * t;
    case 2: return activate(ACT, s) * t;
    case 3: return bounded(ACT, s, t, low, high);
    case 4: return s * activate(ACT, t);
    }
    return s;
}

void main() {
    uint i = column(), row = gl_WorkGroupID.y;
    if (row >= rows.v[0] || i >= width) return;
    y.v[row * ldy + i] = f(a.v[row * lda + i], b.v[row * ldb + i / part]);
}
