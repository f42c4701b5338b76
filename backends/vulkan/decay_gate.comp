// y = exp(rate * act(x + shift)), or exp(bound * sigmoid(rate * (x + shift))). FORM is a place in
// FORMS of gpu_ops/decay_gate.py.
#version 450
#include "common.glsl"
#include "activations.glsl"
layout(local_size_x = 64) in;
layout(constant_id = 0) const uint FORM = 0;
layout(push_constant) uniform Arguments {
    U32 rows;
    F32 x, shift, rates, y;  // a rate for each `part` columns
    uint ldx, ldy, width, part;
    float bound;
};

void main() {
    uint row = gl_WorkGroupID.y, i = column();
    if (row >= rows.v[0] || i >= width) return;
    float moved = x.v[row * ldx + i] + shift.v[i], rate = rates.v[i / part];
    float grown = FORM == 0 ? softplus(moved) : exp(moved);
    y.v[row * ldy + i] = exp(FORM == 2 ? bound * sigmoid(rate * moved) : rate * grown);
}
