// Weights 32 * part to 32 * part + 31 of a row.
void unpack(uint64_t row, uint part, uint k, out float z[32]) {
    uint64_t block = row + part / 8 * 210;
    uint half_ = part % 8 / 4, quarter = part % 4;
    float d = float(F16(block).v[104]);
    U8 low = U8(block + 64 * half_ + quarter % 2 * 32), high = U8(block + 128 + 32 * half_);
    U8 scales = U8(block + 192 + part % 8 * 2);
    [[unroll]] for (uint g = 0; g < 2; g++) {
        float scale = d * float(int(uint(scales.v[g]) << 24) >> 24);
        [[unroll]] for (uint i = 16 * g; i < 16 * g + 16; i++) {
            uint code = uint(low.v[i]) >> (quarter / 2 * 4) & 15;
            code |= (uint(high.v[i]) >> (2 * quarter) & 3) << 4;
            z[i] = scale * float(int(code) - 32);
        }
    }
}
