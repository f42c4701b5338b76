// Weights 32 * part to 32 * part + 31 of a row.
#include "k_scales.glsl"

void unpack(uint64_t row, uint part, uint k, out float z[32]) {
    uint64_t block = row + part / 8 * 176;
    uint group = part % 8, shift = part % 2 * 4;
    uvec2 s = scale_and_minimum(U8(block + 4), group);
    float d = float(F16(block).v[0]) * float(s.x), low = float(F16(block).v[1]) * float(s.y);
    U32 high = U32(block + 16), codes = U32(block + 48 + group / 2 * 32);
    [[unroll]] for (uint i = 0; i < 8; i++) {
        uint four = codes.v[i] >> shift, bits = high.v[i] >> group;
        [[unroll]] for (uint j = 0; j < 4; j++)
            z[4 * i + j] = d * float(four >> (8 * j) & 15 | (bits >> (8 * j) & 1) << 4) - low;
    }
}
