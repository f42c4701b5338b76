// Gates of residual streams: to read them, to write them, and to mix them. A workgroup a row.
#version 450
#include "common.glsl"
#include "activations.glsl"
layout(local_size_x = 64) in;
layout(constant_id = 0) const uint S = 4;  // streams, at most 64
layout(push_constant) uniform Arguments {
    U32 rows;
    F32 x, scale, base, y;
    uint ldx, ldy, width, iterations;
    float eps, magnitude, post_eps;
};
shared float mix_[S * S];  // [source][target]

// Divide S numbers, `step_` apart, by their sum + add.
void divide(uint first, uint step_, float add) {
    float total = 0;
    for (uint i = 0; i < S; i++) total += mix_[first + step_ * i];
    total += add;
    for (uint i = 0; i < S; i++) mix_[first + step_ * i] /= total;
}

void softmax(uint first) {
    float top = mix_[first];
    for (uint i = 1; i < S; i++) top = max(top, mix_[first + i]);
    for (uint i = 0; i < S; i++) mix_[first + i] = exp(mix_[first + i] - top);
    divide(first, 1, 0);
    for (uint i = 0; i < S; i++) mix_[first + i] += eps;
}

// Sinkhorn's iteration: a lane for each source or target.
void balance(uint lane) {
    if (lane < S) softmax(S * lane);
    barrier();
    for (uint turn = 0; turn < iterations; turn++) {
        if (turn > 0 && lane < S) divide(S * lane, 1, eps);
        barrier();
        if (lane < S) divide(lane, S, eps);
        barrier();
    }
}

void main() {
    uint row = gl_WorkGroupID.y, lane = gl_LocalInvocationID.x;
    if (row >= rows.v[0]) return;
    for (uint i = lane; i < width; i += 64) {
        float z = x.v[row * ldx + i] * scale.v[i] + base.v[i];
        if (i < S) y.v[row * ldy + i] = sigmoid(z) + eps;
        else if (i < 2 * S) y.v[row * ldy + i] = sigmoid(z) * magnitude + post_eps;
        else mix_[i - 2 * S] = z;
    }
    barrier();
    if (width <= 2 * S) return;
    balance(lane);
    for (uint i = lane; i < S * S; i += 64) y.v[row * ldy + 2 * S + i] = mix_[i];
}
