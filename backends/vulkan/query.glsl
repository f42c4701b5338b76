// A head's query, the first DK numbers in shared memory, and SUMS of values behind it.
const uint ROOM = DK + SUMS;
#include "hadamard.glsl"

// The product with a key of a page, whose items lie PAGE apart.
float score_of(uint64_t key) {
    float score = 0;
    if (!has_blocks(KEYS)) {
        for (uint i = 0; i < DK; i++) score += numbers[i] * load_number(KEYS, key, i * PAGE);
        return score;
    }
    for (uint i = 0; i < DK; i += 32) {
        float scale = half_at(key, PAGE), low = has_low(KEYS) ? half_at(key + 2 * PAGE, PAGE) : 0;
        for (uint j = 0; j < 32; j++)
            score += numbers[i + j] * (scale * code_at(KEYS, key, PAGE, j) + low);
        key += block_bytes(KEYS) * PAGE;
    }
    return score;
}
