// Scale and minimum of a group of 32: 6 bits each, packed in 12 bytes.
uvec2 scale_and_minimum(U8 packed, uint group) {
    if (group < 4) return uvec2(packed.v[group], packed.v[group + 4]) & 63;
    uint four = packed.v[group + 4];
    return uvec2(four & 15 | uint(packed.v[group - 4]) >> 6 << 4,
                 four >> 4 | uint(packed.v[group]) >> 6 << 4);
}
