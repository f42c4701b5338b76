// The K largest of n numbers of a row, by keys (rank, place): first those of each part, which a
// workgroup sorts in runs of K and merges; then, with LAST, one workgroup makes ids and values.
#version 450
#include "common.glsl"
layout(local_size_x = 64) in;
layout(constant_id = 0) const uint K = 64;  // a power of 2
layout(constant_id = 1) const bool LAST = false;
layout(push_constant) uniform Arguments {
    U32 rows;
    F32 x;
    U32 keys, y;
    uint ldx, n, n_keys, part;
};
const uint ITEMS = 1024;  // keys that are compared at a time
shared uint ranks[ITEMS], places[ITEMS];

// Larger where the number is; NaN has the largest rank, and none 0.
uint rank_of(uint bits) {
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return 0xFFFFFFFFu;
    if (bits == 0x80000000u) return bits;  // -0 is 0
    return (bits >> 31) == 1 ? ~bits : bits | 0x80000000u;
}

bool before(uint a, uint b) {
    return ranks[a] > ranks[b] || (ranks[a] == ranks[b] && places[a] < places[b]);
}

// Order `count` pairs of keys: halves of runs that lie `step` apart.
void exchange(uint count, uint step, uint distance, uint mask) {
    uint most = max(K / 2, 1);
    for (uint p = gl_LocalInvocationID.x; p < count; p += 64) {
        uint e = p % most, i = p / most * step + e + (e & ~(distance - 1)), o = i ^ mask;
        if (before(o, i)) {
            uint rank = ranks[i], place = places[i];
            ranks[i] = ranks[o], places[i] = places[o];
            ranks[o] = rank, places[o] = place;
        }
    }
    barrier();
}

void sort_runs() {
    for (uint size = 2; size <= K; size *= 2) {
        exchange(ITEMS / 2, K, size / 2, size - 1);
        for (uint d = size / 4; d > 0; d /= 2) exchange(ITEMS / 2, K, d, d);
    }
}

// Leave the K largest in front; runs descend.
void merge_runs() {
    for (uint step = K; step < ITEMS; step *= 2) {
        uint count = ITEMS / (2 * step) * K;
        for (uint p = gl_LocalInvocationID.x; p < count; p += 64) {
            uint e = p % K, first = p / K * 2 * step, o = first + step + K - 1 - e;
            if (before(o, first + e)) ranks[first + e] = ranks[o], places[first + e] = places[o];
        }
        barrier();
        for (uint d = K / 2; d > 0; d /= 2) exchange(count / 2, 2 * step, d, d);
    }
}

void take(uint i, uint j, uint stop, uint row) {
    uint rank = 0, place = 0xFFFFFFFFu, at = 2 * (row * n_keys + j);
    if (j < stop && LAST) {
        rank = keys.v[at];
        place = keys.v[at + 1];
    } else if (j < stop) {
        rank = rank_of(floatBitsToUint(x.v[row * ldx + j]));
        place = j;
    }
    ranks[i] = rank;
    places[i] = place;
}

void main() {
    uint row = gl_WorkGroupID.y, lane = gl_LocalInvocationID.x, group = group_of_row();
    if (row >= rows.v[0]) return;
    uint stop = LAST ? n_keys : min(n, (group + 1) * part), kept = 0;
    for (uint start = group * part; start < stop; start += ITEMS - kept) {
        if (start > group * part) kept = K;
        for (uint i = kept + lane; i < ITEMS; i += 64) take(i, start + i - kept, stop, row);
        barrier();
        if (!LAST) sort_runs();
        merge_runs();
    }
    for (uint i = lane; i < K; i += 64) {
        uint place = places[i], at = 2 * (row * n_keys + group * K + i);
        if (!LAST) {
            keys.v[at] = ranks[i];
            keys.v[at + 1] = place;
            continue;
        }
        y.v[2 * row * K + i] = place;
        y.v[2 * row * K + K + i] =
            place < n ? floatBitsToUint(x.v[row * ldx + place]) : 0xFF800000u;
    }
}
