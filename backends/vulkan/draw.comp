// A token of each row, chosen among its largest logits by steps that the row brings along; see
// kernels/cuda/draw.py, also for the errors: larger where quotients have 2.5 ulp, as is allowed.
// A workgroup has a row, a lane one of its logits; what is to be known of all of them each lane
// finds out for itself.
#version 450
#include "common.glsl"
layout(local_size_x = 128) in;
layout(push_constant) uniform Arguments {
    U32 rows;
    I32 found;
    U32 draws;
    I32 drawn;
    uint k, n_vocab, draw_bytes;
};
const uint TOP_K = 0, TOP_P = 1, TYPICAL_P = 2, MIN_P = 3, TOP_N_SIGMA = 4, TEMPERATURE = 5,
           DIST = 6, GREEDY = 7;  // places in STEPS of backends/_gpu/draw.py
const float INF = 1.0 / 0.0;
shared float room[128];
shared int ids[128];
uint n;  // logits that are left: those of the first lanes
float x;  // the lane's
int token;
bool is_sorted;
uint lane() { return gl_LocalInvocationID.x; }

// e^v of numbers up to 0, below 2 ulp: v = k ln 2 + r; e^r by a polynomial of cpu/vmath.py.
float exp_(float v) {
    int k = int(max(v, -87.3) * 1.44269504 - 0.5);
    float r = fma(float(k), 2.12194440e-4, fma(float(k), -0.693359375, v));
    float p = fma(fma(fma(1.3814601299e-03, r, 8.3687152722e-03), r, 4.1668387900e-02), r,
                  1.6666520645e-01);
    p = fma(fma(p, r, 4.9999993449e-01), r * r, r) + 1;
    return v >= -87.3 ? uintBitsToFloat(floatBitsToUint(p) + (uint(k) << 23)) : 0;
}

// The natural logarithm of 0 to 1: v = 2^k m, and log(m) = 2 artanh(s) by its power series.
float log_(float v) {
    if (v < 1.17549435e-38) return -INF;
    uint bits = floatBitsToUint(v);
    float m = uintBitsToFloat(bits & 0x7FFFFFu | 0x3F800000u), k = float(int(bits >> 23) - 127);
    if (m > 1.41421356) m *= 0.5, k++;
    float s = (m - 1) / (m + 1), z = s * s;
    float p = fma(fma(fma(2.0 / 9, z, 2.0 / 7), z, 0.4), z, 2.0 / 3);
    return fma(k, 0.693359375, fma(k, -2.12194440e-4, fma(p * z, s, s + s)));
}

void share(float v) {
    barrier();
    room[lane()] = v;
    barrier();
}

float sum() {
    float total = 0;
    for (uint i = 0; i < n; i++) total += room[i];
    return total;
}

float largest() {
    share(x);
    float top = -INF;
    for (uint i = 0; i < n; i++) top = max(top, room[i]);
    return top;
}

// Share e^(x - top) divided by `by`; the sum.
float weigh(float top, float by) {
    share(exp_(x - top) / by);
    return sum();
}

// How many numbers it takes until their sum is at least, or above, a bound; or n.
uint reaching(float bound, bool above) {
    float total = 0;
    uint i = 0;
    while (i < n && (total < bound || i == 0 || (above && total == bound))) total += room[i++];
    return i;
}

// Put lanes in ascending order of keys; equal ones stay.
void arrange(float key) {
    share(key);
    uint at = lane();
    if (at < n) {
        at = 0;
        for (uint i = 0; i < n; i++)
            if (room[i] < key || (room[i] == key && i < lane())) at++;
    }
    barrier();
    room[at] = x;
    ids[at] = token;
    barrier();
    x = room[lane()];
    token = ids[lane()];
}

// Place of the first one that is equal.
uint first(float top) {
    uint i = 0;
    while (i + 1 < n && room[i] != top) i++;
    return i;
}

void keep(uint count, uint least) { n = min(max(count, least), n); }

void top_p(float p, uint least) {
    float top = largest();
    weigh(top, weigh(top, 1));
    keep(reaching(p, false), least);
}

void typical_p(float p, uint least) {
    float top = largest(), total = weigh(top, 1);
    float own = exp_(x - top) / total, surprise = -log_(own);
    share(own > 0 ? own * surprise : 0);
    arrange(abs(surprise - sum()));
    weigh(top, total);
    keep(reaching(p, true), least);
}

void min_p(float log_p, uint least) {
    float outside = x >= largest() + log_p ? 0 : 1;
    share(outside);
    uint kept = n - uint(sum());
    if (!is_sorted) arrange(kept < least ? -x : outside);
    is_sorted = is_sorted || kept < least;
    keep(kept, least);
}

// -inf for what is more than so many deviations below the largest.
void top_n_sigma(float times) {
    float top = largest();
    bool possible = x > -INF;
    share(possible ? 1 : 0);
    float count = sum();
    share(possible ? x : 0);
    float off = x - sum() / count;
    share(possible ? off * off : 0);
    if (x < top - times * sqrt(sum() / count)) x = -INF;
}

bool is_finite(float v) { return (floatBitsToUint(v) & 0x7FFFFFFFu) < 0x7F800000u; }

void main() {
    uint row = gl_WorkGroupID.y;
    if (row >= rows.v[0]) return;
    uint at = 2 * k * row, step = draw_bytes / 4 * row, stop = step + draw_bytes / 4, chosen = 0;
    n = min(k, n_vocab);
    x = lane() < n ? intBitsToFloat(found.v[at + k + lane()]) : -INF;
    token = lane() < n ? found.v[at + lane()] : -1;
    is_sorted = true;
    float top = intBitsToFloat(found.v[at + k]);
    for (; step < stop && is_finite(top); step += 2) {
        uint kind = draws.v[step] & 0xFFFFu, least = draws.v[step] >> 16;
        float amount = uintBitsToFloat(draws.v[step + 1]);
        if (kind <= TYPICAL_P && !is_sorted) {
            arrange(-x);
            is_sorted = true;
        }
        switch (kind) {
        case TOP_K: n = min(n, uint(amount)); break;
        case TOP_P: top_p(amount, least); break;
        case TYPICAL_P: typical_p(amount, least); is_sorted = false; break;
        case MIN_P: min_p(amount, least); break;
        case TOP_N_SIGMA: if (n > 1) top_n_sigma(amount); break;
        case TEMPERATURE: x /= amount; break;
        default:
            top = largest();
            if (kind == DIST) chosen = reaching(weigh(top, 1) * amount, false) - 1;
            if (kind == GREEDY) chosen = first(top);
            stop = step;
        }
    }
    if (lane() == chosen) drawn.v[row] = is_finite(top) ? token : -1;
}
