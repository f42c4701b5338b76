#include "run.glsl"
#include "types/iq4_levels.glsl"

// Numbers of a cache, whose type is a place of cache_types.NAMES: float32, float16, bfloat16, then
// types of blocks of 32 numbers.
const uint Q8_0 = 3, Q5_1 = 4, Q5_0 = 5, Q4_1 = 6, Q4_0 = 7, IQ4_NL = 8;

bool has_blocks(uint type) { return type >= Q8_0; }
bool has_low(uint type) { return type == Q5_1 || type == Q4_1; }  // a number that codes begin at
bool has_fifths(uint type) { return type == Q5_1 || type == Q5_0; }  // bits beside the nibbles
uint fifths_at(uint type) { return has_low(type) ? 4 : 2; }
uint codes_at(uint type) { return fifths_at(type) + (has_fifths(type) ? 4 : 0); }
uint block_bytes(uint type) { return codes_at(type) + (type == Q8_0 ? 32 : 16); }

// Items of a row are numbers, or bytes of blocks.
uint item_bytes(uint type) { return has_blocks(type) ? 1 : type == 0 ? 4 : 2; }

uint row_bytes(uint type, uint n) {
    return has_blocks(type) ? n / 32 * block_bytes(type) : n * item_bytes(type);
}

float load_number(uint type, uint64_t base, uint i) {
    if (type == 0) return F32(base).v[i];
    if (type == 1) return float(F16(base).v[i]);
    return uintBitsToFloat(uint(U16(base).v[i]) << 16);
}

void store_number(uint type, uint64_t base, uint i, float x) {
    if (type == 0) {
        F32(base).v[i] = x;
    } else if (type == 1) {
        F16(base).v[i] = float16_t(x);
    } else {  // to the nearest, of two the even one
        uint bits = floatBitsToUint(x);
        bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
        bits = is_nan ? bits | 0x400000u : bits + 0x7fff + (bits >> 16 & 1);
        U16(base).v[i] = uint16_t(bits >> 16);
    }
}

// A float16 whose bytes lie `step` apart.
float half_at(uint64_t at, uint step) {
    if (step == 1) return float(F16(at).v[0]);
    return unpackHalf2x16(uint(U8(at).v[0]) | uint(U8(at).v[step]) << 8).x;
}

// What the code of number i of a block stands for before it is scaled.
float code_at(uint type, uint64_t block, uint step, uint i) {
    U8 bytes = U8(block);
    if (type == Q8_0) return float(int(uint(bytes.v[(2 + i) * step]) << 24) >> 24);
    uint code = uint(bytes.v[(codes_at(type) + i % 16) * step]) >> i / 16 * 4 & 15;
    if (type == IQ4_NL) return LEVELS[code];
    if (has_fifths(type))
        code |= (uint(bytes.v[(fifths_at(type) + i / 8) * step]) >> i % 8 & 1) << 4;
    return has_low(type) ? float(code) : float(int(code) - (has_fifths(type) ? 16 : 8));
}

// Number i of a row whose items lie `step` items apart.
float number_of(uint type, uint64_t row, uint step, uint i) {
    if (!has_blocks(type)) return load_number(type, row, i * step);
    uint64_t block = row + i / 32 * block_bytes(type) * step;
    float x = half_at(block, step) * code_at(type, block, step, i % 32);
    return has_low(type) ? x + half_at(block + 2 * step, step) : x;
}

uint hadamard(uint width, uint largest) {
    uint size = width % 64 == 0 ? 64 : 0;
    while (size > 0 && size < largest && width % (2 * size) == 0) size *= 2;
    return size;
}

// Columns of the matrix that keys, or values, of a type and width are multiplied with; 0 for none.
uint hadamard_of_keys(uint type, uint width) { return has_blocks(type) ? hadamard(width, 1024) : 0; }
uint hadamard_of_values(uint type, uint width) { return has_blocks(type) ? hadamard(width, 64) : 0; }
