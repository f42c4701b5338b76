// Weights 32 * part to 32 * part + 31 of a row.
#include "iq4_levels.glsl"

void unpack(uint64_t row, uint part, uint k, out float z[32]) {
    uint64_t block = row + part / 8 * 136;
    uint group = part % 8;
    uint six = uint(U8(block + 4).v[group / 2]) >> (group % 2 * 4) & 15;
    six |= (uint(U16(block).v[1]) >> (2 * group) & 3) << 4;
    float d = float(F16(block).v[0]) * float(int(six) - 32);
    U8 codes = U8(block + 8 + 16 * group);
    [[unroll]] for (uint i = 0; i < 16; i++) {
        uint two = uint(codes.v[i]);
        z[i] = d * LEVELS[two & 15];
        z[i + 16] = d * LEVELS[two >> 4];
    }
}
