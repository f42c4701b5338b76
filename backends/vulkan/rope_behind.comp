// Turns pairs of n_rot columns from `start` of each head, by position - behind; all other columns
// are copied.
#version 450
#include "common.glsl"
layout(local_size_x = 64) in;
layout(constant_id = 0) const bool NEOX = false;
layout(push_constant) uniform Arguments {
    U32 rows;
    I32 positions;
    F32 x, frequencies, y;
    uint ldx, ldy, width, head_dim, start, n_rot, behind;
    float magnitude;
};

// Cosine and sine of an angle from 0 on; a device's own may have few digits. The angle less
// multiples of pi / 2, a number in three parts whose products with small integers are exact, then
// short polynomials.
void turn(float angle, out float cosine, out float sine) {
    int quarters = int(angle * 0.6366197724 + 0.5);
    float k = float(quarters), r = angle - k * 1.5703125;
    r = r - k * 4.837512969970703e-4 - k * 7.549789948768648e-8;
    float z = r * r;
    float s = r + r * z * (-1.6666654611e-1 + z * (8.3321608736e-3 - z * 1.9515295891e-4));
    float c = 1 - 0.5 * z
        + z * z * (4.166664568298827e-2 + z * (-1.388731625493765e-3 + z * 2.443315711809948e-5));
    bool swapped = (quarters & 1) == 1;
    cosine = swapped ? -s : c;
    sine = swapped ? c : s;
    if ((quarters & 2) == 0) return;
    cosine = -cosine;
    sine = -sine;
}

void main() {
    uint i = column(), row = gl_WorkGroupID.y, half_rot = n_rot / 2, from = row * ldx + i;
    if (row >= rows.v[0] || i >= width) return;
    float own = x.v[from];
    uint at = i % head_dim - start;  // columns before the start wrap around
    if (at < n_rot) {
        bool first = NEOX ? at < half_rot : (at & 1) == 0;
        uint pair = NEOX ? at % half_rot : at / 2, step_ = NEOX ? half_rot : 1;
        int position = max(0, positions.v[row] - int(behind));
        float cosine, sine;
        turn(float(position) * frequencies.v[pair], cosine, sine);
        cosine *= magnitude;
        sine *= magnitude;
        if (first) own = own * cosine - x.v[from + step_] * sine;
        else own = x.v[from - step_] * sine + own * cosine;
    }
    y.v[row * ldy + i] = own;
}
