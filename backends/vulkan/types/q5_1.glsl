// Weights 32 * part to 32 * part + 31 of a row.
void unpack(uint64_t row, uint part, uint k, out float z[32]) {
    U16 block = U16(row + part * 24);
    F16 halves = F16(row + part * 24);
    float d = float(halves.v[0]), low = float(halves.v[1]);
    uint high = uint(block.v[2]) | uint(block.v[2 + 1]) << 16;
    [[unroll]] for (uint i = 0; i < 16; i++) {
        uint code = uint(block.v[4 + i / 2]) >> (i % 2 * 8);
        z[i] = d * float(code & 15 | (high >> i & 1) << 4) + low;
        z[i + 16] = d * float(code >> 4 & 15 | (high >> (i + 16) & 1) << 4) + low;
    }
}
