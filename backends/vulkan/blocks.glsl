// Blocks of 32 numbers in shared memory, with the bits of kernels/cpu/cell_quantize.py as far as a
// device rounds divisions right (Vulkan lets them be 2.5 units of the last place off).
const float BELOW_HALF = 0.49999997, SMALLEST = 1e-37;  // of scales that have an inverse

struct Coding { float scale, low, inverse; };  // codes are of (x - low) * inverse

// x without its fraction, from 0 to `top`; `top` for NaN.
uint whole(float x, float top) { return x < top ? uint(max(x, 0)) : uint(top); }

uint nearest(float x) {  // two neighbours' middle is compared, times two
    uint place = 0;
    for (uint i = 0; i < 15; i++) place += LEVELS[i] + LEVELS[i + 1] < 2 * x ? 1 : 0;
    return place;
}

uint code_of(uint type, Coding coding, float x) {
    float center = has_fifths(type) ? 16 : 8;
    precise float y = (has_low(type) ? x - coding.low : x) * coding.inverse;
    if (type == IQ4_NL) return nearest(y);
    precise float shifted = has_low(type) ? y + 0.5 : y + (center + 0.5);
    if (type != Q8_0) return whole(shifted, 2 * center - 1);
    precise float size = abs(y) + BELOW_HALF;
    return whole(size, 127) * (y < 0 ? -1 : 1);
}

Coding coding_of(uint type, uint first) {
    float peak = numbers[first], low = peak, high = peak, center = has_fifths(type) ? 16 : 8;
    for (uint i = first + 1; i < first + 32; i++) {
        float x = numbers[i];
        if (abs(x) > abs(peak)) peak = x;
        if (x < low) low = x;
        if (x > high) high = x;
    }
    precise float scale;
    if (type == Q8_0) scale = abs(peak) / 127;
    else if (type == IQ4_NL) scale = peak / LEVELS[0];
    else if (has_low(type)) scale = (high - low) / (2 * center - 1);
    else scale = peak / -center;
    Coding coding = Coding(scale, low, abs(scale) > SMALLEST ? 1 / scale : 0);
    if (type != IQ4_NL) return coding;
    precise float cross = 0, square = 0;  // the scale that fits codes best, by least squares
    for (uint i = first; i < first + 32; i++) {
        precise float x = numbers[i], level = LEVELS[code_of(type, coding, x)];
        precise float part = x * x * level;
        cross += part * x;
        square += part * level;
    }
    coding.scale = square > 0 ? cross / square : 0;
    return coding;
}

// The bits of the nearest float16, of two the even one: conversions of devices may do otherwise.
uint half_bits(float x) {
    uint bits = floatBitsToUint(x) & 0x7fffffff, sign = floatBitsToUint(x) >> 16 & 0x8000;
    if (bits > 0x7f800000) return sign | 0x7e00;
    if (bits < 0x38800000) return sign | floatBitsToUint(abs(x) + 0.5) - 0x3f000000;
    return sign | min(bits - 0x38000000 + 0xfff + (bits >> 13 & 1) >> 13, 0x7c00);
}

// Byte i of the block of the 32 numbers from `first` on.
uint byte_of(uint type, Coding coding, uint first, uint i) {
    if (i < fifths_at(type)) return half_bits(i < 2 ? coding.scale : coding.low) >> i % 2 * 8 & 255;
    uint bits = 0, own = first + i - codes_at(type);
    if (i < codes_at(type)) {
        own = first + (i - fifths_at(type)) * 8;
        for (uint j = 0; j < 8; j++) bits |= (code_of(type, coding, numbers[own + j]) >> 4) << j;
        return bits;
    }
    bits = code_of(type, coding, numbers[own]);
    if (type == Q8_0) return bits & 255;
    return bits & 15 | (code_of(type, coding, numbers[own + 16]) & 15) << 4;
}
