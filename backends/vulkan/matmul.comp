// y = x w^T for rows of a tensor type: LANES lanes share an output, 64 / LANES outputs a workgroup,
// each for TILE rows of x. With ROUTED, row r has expert ids[r] of a stack, and x is row r / fan.
// With more than one of `heads`, head h has the h-th matrix of the stack, and its own columns of x.
#version 450
#include "common.glsl"
#include "types/type.glsl"  // becomes the file of a type
layout(local_size_x = 64) in;
layout(constant_id = 0) const uint LANES = 8;
layout(constant_id = 1) const bool ROUTED = false;
layout(constant_id = 2) const bool BIASED = false;
layout(constant_id = 3) const bool SCALED = false;
layout(constant_id = 4) const bool WEIGHED = false;
layout(constant_id = 5) const uint TILE = 1;
layout(push_constant) uniform Arguments {
    U32 rows;
    uint64_t w;
    F32 x, y, bias, scales, weights;
    U32 ids;
    uint n, k, ldx, ldy, row_bytes, fan, heads;
};
shared float sums[TILE * 64];

void main() {
    uint outs = 64 / LANES, lane = gl_LocalInvocationID.x % LANES;
    uint slot = gl_LocalInvocationID.x / LANES;
    uint out_ = group_of_row() * outs + slot, first = gl_WorkGroupID.y * TILE;
    uint count = rows.v[0];
    if (first >= count) return;
    uint head = out_ / n, place = min(out_, n * heads - 1);
    uint expert = ROUTED ? ids.v[first] : 0;
    uint64_t at = w + (uint64_t(expert) * n + place) * row_bytes;
    float acc[TILE];
    [[unroll]] for (uint t = 0; t < TILE; t++) acc[t] = 0;
    uint column0 = heads > 1 ? min(head, heads - 1) * k : 0;
    for (uint part = lane; part * 32 < k; part += LANES) {
        float z[32];
        unpack(at, part, k, z);
        uint left = min(32, k - part * 32);
        [[unroll]] for (uint t = 0; t < TILE; t++) {
            uint from = min(first + t, count - 1) / fan * ldx + column0 + part * 32;
            float sum = 0;
            if (left == 32) {
                [[unroll]] for (uint i = 0; i < 32; i++) sum += z[i] * x.v[from + i];
            } else {
                for (uint i = 0; i < left; i++) sum += z[i] * x.v[from + i];
            }
            acc[t] += sum;
        }
    }
    uint own = gl_LocalInvocationID.x;
    [[unroll]] for (uint t = 0; t < TILE; t++) sums[t * 64 + own] = acc[t];
    for (uint step = LANES / 2; step > 0; step >>= 1) {
        barrier();
        if (lane < step)
            [[unroll]] for (uint t = 0; t < TILE; t++)
                sums[t * 64 + own] += sums[t * 64 + own + step];
    }
    barrier();
    if (lane != 0 || out_ >= n * heads) return;
    for (uint t = 0; t < TILE && first + t < count; t++) {
        float sum = sums[t * 64 + own];
        if (SCALED) sum *= scales.v[expert];
        if (WEIGHED) sum *= weights.v[first + t];
        if (BIASED) sum += bias.v[expert * n + place];
        y.v[(first + t) * ldy + out_] = sum;
    }
}
