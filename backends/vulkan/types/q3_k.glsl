// Weights 32 * part to 32 * part + 31 of a row.
void unpack(uint64_t row, uint part, uint k, out float z[32]) {
    uint64_t block = row + part / 8 * 110;
    uint group = part % 8, half_ = group / 4;
    float d = float(F16(block).v[54]);
    U8 bits = U8(block), codes = U8(block + 32 + 32 * half_), packed = U8(block + 96);
    [[unroll]] for (uint g = 0; g < 2; g++) {
        uint n = 2 * group + g;
        uint six = uint(packed.v[n % 8]) >> (n / 8 * 4) & 15;
        six |= (uint(packed.v[8 + n % 4]) >> (n / 4 * 2) & 3) << 4;
        float scale = d * float(int(six) - 32);
        [[unroll]] for (uint i = 16 * g; i < 16 * g + 16; i++) {
            uint code = uint(codes.v[i]) >> (group % 4 * 2) & 3;
            code |= (uint(bits.v[i]) >> group & 1) << 2;
            z[i] = scale * float(int(code) - 4);
        }
    }
}
