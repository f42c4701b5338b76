// Weights 32 * part to 32 * part + 31 of a row.
void unpack(uint64_t row, uint part, uint k, out float z[32]) {
    U16 block = U16(row + part * 20);
    F16 halves = F16(row + part * 20);
    float d = float(halves.v[0]), low = float(halves.v[1]);
    [[unroll]] for (uint i = 0; i < 8; i++) {
        uint two = uint(block.v[2 + i]);
        z[2 * i] = d * float(two & 15) + low;
        z[2 * i + 1] = d * float(two >> 8 & 15) + low;
        z[2 * i + 16] = d * float(two >> 4 & 15) + low;
        z[2 * i + 17] = d * float(two >> 12) + low;
    }
}
