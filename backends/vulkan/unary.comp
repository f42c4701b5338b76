// y = f(x), element by element.
#version 450
#include "common.glsl"
#include "activations.glsl"
layout(local_size_x = 64) in;
layout(constant_id = 0) const uint OP = 0;
layout(constant_id = 1) const uint ACT = 0;
layout(push_constant) uniform Arguments {
    U32 rows;
    F32 x, y;
    uint ldx, ldy, width;
    float a, b, c, d;
};

// Huang and Schlag, "Deriving Activation Functions Using Integration", 2024.
float xielu(float v) {
    if (v > 0) return a * v * v + c * v;
    float low = min(v, d);  // near 0, e^x - 1 is a series: no digits cancel
    float grown = abs(low) < 0.05 ? low * (1 + low * (0.5 + low * (1.0 / 6 + low / 24)))
                                  : exp(low) - 1;
    return b * (grown - v) + c * v;
}

float f(float v) {
    switch (OP) {
    case 0: return v;
    case 1: return v * a;
    case 2: return a * tanh_(v / a);
    case 3: return clamp(v, -a, a);
    case 4: return activate(ACT, v);
    case 5: return xielu(v);
    case 6: return a;
    }
    return v;
}

void main() {
    uint i = column(), row = gl_WorkGroupID.y;
    if (row < rows.v[0] && i < width) y.v[row * ldy + i] = f(x.v[row * ldx + i]);
}
