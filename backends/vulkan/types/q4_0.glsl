// Weights 32 * part to 32 * part + 31 of a row.
void unpack(uint64_t row, uint part, uint k, out float z[32]) {
    U16 block = U16(row + part * 18);
    F16 halves = F16(row + part * 18);
    float d = float(halves.v[0]), low = -8 * d;
    [[unroll]] for (uint i = 0; i < 8; i++) {
        uint two = uint(block.v[1 + i]);
        z[2 * i] = d * float(two & 15) + low;
        z[2 * i + 1] = d * float(two >> 8 & 15) + low;
        z[2 * i + 16] = d * float(two >> 4 & 15) + low;
        z[2 * i + 17] = d * float(two >> 12) + low;
    }
}
