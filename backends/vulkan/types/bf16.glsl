// Weights 32 * part to 32 * part + 31 of a row, 0 behind its end.
void unpack(uint64_t row, uint part, uint k, out float z[32]) {
    uint left = min(32, k - part * 32);
    [[unroll]] for (uint i = 0; i < 32; i++) {
        uint at = part * 32 + min(i, left - 1);
        z[i] = i < left ? uintBitsToFloat(uint(U16(row).v[at]) << 16) : 0;
    }
}
