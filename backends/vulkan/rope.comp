// Turns pairs of columns of each head; the host has made cos and sin of the angles of each row.
#version 450
#include "common.glsl"
layout(local_size_x = 64) in;
layout(constant_id = 0) const bool NEOX = false;
layout(push_constant) uniform Arguments {
    U32 rows;
    F32 x, y, angles;  // angles: [T, n_rot / 2, 2]
    uint ldx, ldy, width, head_dim, n_rot;
    float magnitude;
};

void main() {
    uint i = column(), row = gl_WorkGroupID.y, half_rot = n_rot / 2;
    if (row >= rows.v[0] || i >= width) return;
    uint head = i / head_dim * head_dim, at = i - head;
    float own = x.v[row * ldx + i];
    if (at < n_rot) {
        bool first = NEOX ? at < half_rot : (at & 1) == 0;
        uint pair = NEOX ? at % half_rot : at / 2;
        uint step = NEOX ? half_rot : 1;
        uint angle = (row * half_rot + pair) * 2;
        float cosine = angles.v[angle] * magnitude, sine = angles.v[angle + 1] * magnitude;
        float other = x.v[row * ldx + (first ? i + step : i - step)];
        own = first ? own * cosine - other * sine : other * sine + own * cosine;
    }
    y.v[row * ldy + i] = own;
}
