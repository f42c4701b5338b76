// Weights 32 * part to 32 * part + 31 of a row.
void unpack(uint64_t row, uint part, uint k, out float z[32]) {
    uint64_t block = row + part / 8 * 84;
    uint group = part % 8;
    F16 halves = F16(block + 80);
    U8 scales = U8(block + 2 * group), codes = U8(block + 16 + group / 4 * 32);
    [[unroll]] for (uint g = 0; g < 2; g++) {
        uint both = uint(scales.v[g]);
        float d = float(halves.v[0]) * float(both & 15), low = float(halves.v[1]) * float(both >> 4);
        [[unroll]] for (uint i = 16 * g; i < 16 * g + 16; i++)
            z[i] = d * float(uint(codes.v[i]) >> (group % 4 * 2) & 3) - low;
    }
}
