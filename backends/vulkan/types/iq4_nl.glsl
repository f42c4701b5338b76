// Weights 32 * part to 32 * part + 31 of a row.
#include "iq4_levels.glsl"

void unpack(uint64_t row, uint part, uint k, out float z[32]) {
    float d = float(F16(row + part * 18).v[0]);
    U8 codes = U8(row + part * 18 + 2);
    [[unroll]] for (uint i = 0; i < 16; i++) {
        uint two = uint(codes.v[i]);
        z[i] = d * LEVELS[two & 15];
        z[i + 16] = d * LEVELS[two >> 4];
    }
}
