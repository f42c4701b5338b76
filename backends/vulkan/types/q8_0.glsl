// Weights 32 * part to 32 * part + 31 of a row.
void unpack(uint64_t row, uint part, uint k, out float z[32]) {
    U16 block = U16(row + part * 34);
    float d = float(F16(row + part * 34).v[0]);
    [[unroll]] for (uint i = 0; i < 16; i++) {
        int two = int(uint(block.v[1 + i]) << 16);
        z[2 * i] = d * float(two << 8 >> 24);
        z[2 * i + 1] = d * float(two >> 24);
    }
}
