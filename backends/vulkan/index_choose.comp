// The top_k best of a row and head by their scores, in ascending order, as positions; then -1.
// Scores are of blocks of SIZE positions, which are all listed, or of the last position of each. Of
// equal scores the first count. Rows that see no more than top_k need no scores.
#version 450
#include "common.glsl"
#include "run.glsl"
layout(local_size_x = 64) in;
layout(constant_id = 0) const uint SIZE = 1;
layout(constant_id = 1) const bool BLOCKS = false;
layout(push_constant) uniform Arguments {
    Run run;
    F32 scores, y;
    uint lds, most, ldy, top_k;
};
struct Sums { uint before, all; };
shared uint sums[64];
const uint EACH = BLOCKS ? SIZE : 1;

// A number that is larger where a score is; NaN is the lowest.
uint rank(uint i) {
    uint bits = floatBitsToUint(scores.v[i]);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0;
    return (bits & 0x80000000u) == 0 ? bits | 0x80000000u : ~bits + 1;
}

// The sum over the lanes before this one, and over all.
Sums sums_of(uint x) {
    uint lane = gl_LocalInvocationID.x, seen = x;
    for (uint by = 1; by < 64; by *= 2) {
        barrier();
        sums[lane] = seen;
        barrier();
        if (lane >= by) seen += sums[lane - by];
    }
    barrier();
    sums[lane] = seen;
    barrier();
    return Sums(seen - x, sums[63]);
}

uint count(uint from, uint n, uint bound) {
    uint own = 0;
    for (uint i = gl_LocalInvocationID.x; i < n; i += 64) own += uint(rank(from + i) >= bound);
    return sums_of(own).all;
}

// The k-th largest rank, bit by bit, and how many ranks are larger.
void find_threshold(uint from, uint n, out uint low, out uint above) {
    low = 0, above = 0;
    for (int bit = 31; bit >= 0; bit--) {
        uint larger = count(from, n, low | 1u << bit);
        if (larger >= top_k) low |= 1u << bit;
        else above = larger;
    }
}

void list(uint to, uint item, uint position) {
    for (uint j = 0; j < EACH; j++) {
        uint s = BLOCKS ? item * SIZE + j : item * SIZE + SIZE - 1;
        y.v[to + j] = s <= position ? float(s) : -1;
    }
}

void main() {
    uint row = gl_WorkGroupID.y, head = group_of_row(), lane = gl_LocalInvocationID.x;
    if (row >= run.n_tokens) return;
    uint position = uint(position_of(run, segment_of(run, row), row));
    uint n = BLOCKS ? position / SIZE + 1 : (position + 1) / SIZE;
    uint from = row * lds + head * most, to = row * ldy + head * top_k * EACH, place = 0;
    uint bound = 0, above = 0;
    if (n > top_k) find_threshold(from, n, bound, above);
    uint equals = top_k - above;  // of that rank, so many
    for (uint start = 0; start < n; start += 64) {
        uint i = start + lane, own = 0;
        bool better = false, equal = false;
        if (i < n) {
            if (n > top_k) own = rank(from + i);
            better = n <= top_k || own > bound;
            equal = !better && own == bound;
        }
        Sums seen = sums_of(uint(better) + (uint(equal) << 16));
        uint same = min(seen.before >> 16, equals), all_same = min(seen.all >> 16, equals);
        if (better || (equal && seen.before >> 16 < equals))
            list(to + (place + (seen.before & 0xffff) + same) * EACH, i, position);
        equals -= all_same;
        place += (seen.all & 0xffff) + all_same;
    }
    for (uint i = place * EACH + lane; i < top_k * EACH; i += 64) y.v[to + i] = -1;
}
