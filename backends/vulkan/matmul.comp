// y = x w^T for rows of a tensor type: LANES lanes share PER outputs, each for TILE rows of x. With ROUTED, row r has expert ids[r] of a stack, and x is row r / fan.
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
layout(constant_id = 6) const uint PER = 1;
layout(push_constant) uniform Arguments {
    U32 rows;
    uint64_t w;
    F32 x, y, bias, scales, weights;
    U32 ids;
    uint n, k, ldx, ldy, row_bytes, fan, heads;
};
shared float sums[TILE * PER * 64];

void main() {
    uint outs = 64 / LANES * PER, own = gl_LocalInvocationID.x, lane = own % LANES;
    uint out0 = group_of_row() * outs + own / LANES * PER, first = gl_WorkGroupID.y * TILE;
    uint count = rows.v[0], all_outs = n * heads;
    if (first >= count) return;
    uint expert = ROUTED ? ids.v[first] : 0;
    uint column0 = heads > 1 ? min(out0 / n, heads - 1) * k : 0;
    float acc[TILE * PER];
    [[unroll]] for (uint a = 0; a < TILE * PER; a++) acc[a] = 0;
    for (uint part = lane; part * 32 < k; part += LANES) {
        float z[32], xs[TILE * 32];
        uint left = min(32, k - part * 32);
        [[unroll]] for (uint t = 0; t < TILE; t++) {
            uint from = min(first + t, count - 1) / fan * ldx + column0 + part * 32;
            [[unroll]] for (uint i = 0; i < 32; i++)
                xs[t * 32 + i] = x.v[from + min(i, left - 1)];  // behind the row, w is 0
        }
        [[unroll]] for (uint p = 0; p < PER; p++) {
            uint place = min(out0 + p, all_outs - 1);
            unpack(w + (uint64_t(expert) * n + place) * row_bytes, part, k, z);
            [[unroll]] for (uint t = 0; t < TILE; t++) {
                float sum = 0;
                [[unroll]] for (uint i = 0; i < 32; i++) sum += z[i] * xs[t * 32 + i];
                acc[p * TILE + t] += sum;
            }
        }
    }
    [[unroll]] for (uint a = 0; a < TILE * PER; a++) sums[a * 64 + own] = acc[a];
    for (uint step = LANES / 2; step > 0; step >>= 1) {
        barrier();
        if (lane < step)
            [[unroll]] for (uint a = 0; a < TILE * PER; a++)
                sums[a * 64 + own] += sums[a * 64 + own + step];
    }
    barrier();
    if (lane != 0) return;
    for (uint a = 0; a < TILE * PER; a++) {
        uint out_ = out0 + a / TILE, row = first + a % TILE;
        if (out_ >= all_outs || row >= count) continue;
        float sum = sums[a * 64 + own];
        if (SCALED) sum *= scales.v[expert];
        if (WEIGHED) sum *= weights.v[row];
        if (BIASED) sum += bias.v[expert * n + out_];
        y.v[row * ldy + out_] = sum;
    }
}
