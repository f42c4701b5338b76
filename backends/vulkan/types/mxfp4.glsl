// Weights 32 * part to 32 * part + 31 of a row.
const float LEVELS[16] = float[](0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12);

void unpack(uint64_t row, uint part, uint k, out float z[32]) {
    U8 block = U8(row + part * 17);
    uint e = uint(block.v[0]);  // 2^(e - 128); 2^-128 and 2^-127 are subnormal
    float d = uintBitsToFloat(e < 2 ? 0x200000u << e : (e - 1) << 23);
    [[unroll]] for (uint i = 0; i < 16; i++) {
        uint two = uint(block.v[1 + i]);
        z[i] = d * LEVELS[two & 15];
        z[i + 16] = d * LEVELS[two >> 4];
    }
}
