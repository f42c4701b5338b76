// Weights 32 * part to 32 * part + 31 of a row, as far as it goes.
void unpack(uint64_t row, uint part, uint k, out float z[32]) {
    uint left = min(32, k - part * 32);
    for (uint i = 0; i < left; i++) {
        uint at = part * 32 + i;
        z[i] = uintBitsToFloat(uint(U16(row).v[at]) << 16);
    }
}
