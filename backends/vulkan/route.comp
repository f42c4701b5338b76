// Chooses k experts for a row and weighs them; one workgroup a row, of which one lane decides.
#version 450
#include "common.glsl"
#include "activations.glsl"
#include "sum64.glsl"
layout(local_size_x = 64) in;
layout(constant_id = 0) const uint GATING = 0;  // place in GATINGS of gpu_ops/experts.py
layout(constant_id = 1) const uint E = 8;
layout(constant_id = 2) const uint K = 2;
layout(constant_id = 3) const bool NORM = true;
layout(constant_id = 4) const bool BIASED = false;
layout(constant_id = 5) const bool CHOSEN = false;
layout(push_constant) uniform Arguments {
    U32 rows;
    F32 logits, bias, chosen;
    U32 ids;
    F32 weights;
    uint ldl, ldc, n_group, topk_group, per_group;
    float norm_min, factor;
};
shared float scores[E], ranks[E];
const float NEVER = -3e38, TAKEN = -3.3e38;

void score(uint row, uint lane) {
    float top = NEVER, total = 0;
    for (uint e = lane; e < E; e += 64) top = max(top, logits.v[row * ldl + e]);
    top = max64(top);
    if (GATING == 0) {
        for (uint e = lane; e < E; e += 64) total += exp(logits.v[row * ldl + e] - top);
        total = sum64(total);
    }
    for (uint e = lane; e < E; e += 64) {
        float x = logits.v[row * ldl + e];
        if (GATING == 0) x = exp(x - top) / total;
        if (GATING == 1) x = sigmoid(x);
        if (GATING == 2) x = sqrt(softplus(x));
        scores[e] = x;
        ranks[e] = BIASED ? x + bias.v[e] : x;
    }
    barrier();
}

// Sum of the two best ranks of a group.
float worth(uint group, uint size) {
    float first = NEVER, second = NEVER;
    for (uint e = group * size; e < (group + 1) * size; e++) {
        float r = ranks[e];
        if (r > first) second = first, first = r;
        else if (r > second) second = r;
    }
    return size > 1 ? first + second : first;
}

// Take all ranks from groups that are not among the best.
void drop_groups() {
    uint size = E / n_group;
    float worths[64];
    for (uint g = 0; g < n_group; g++) worths[g] = worth(g, size);
    for (uint g = 0; g < n_group; g++) {
        uint better = 0;
        for (uint o = 0; o < n_group; o++)
            if (worths[o] > worths[g] || (worths[o] == worths[g] && o < g)) better++;
        if (better >= topk_group)
            for (uint e = g * size; e < (g + 1) * size; e++) ranks[e] = NEVER;
    }
}

void main() {
    uint row = gl_WorkGroupID.y, lane = gl_LocalInvocationID.x;
    if (row >= rows.v[0]) return;
    score(row, lane);
    if (lane != 0) return;
    if (!CHOSEN && n_group > 1) drop_groups();
    float top = NEVER, sum = 0;
    for (uint j = 0; j < K; j++) {
        uint best = 0;
        if (CHOSEN) {
            best = uint(chosen.v[row * ldc + j]);
        } else {
            for (uint e = 1; e < E; e++) if (ranks[e] > ranks[best]) best = e;
            ranks[best] = TAKEN;
        }
        ids.v[row * K + j] = best / per_group;
        top = max(top, scores[best / per_group]);
    }
    for (uint j = 0; j < K; j++) {
        float weight = scores[ids.v[row * K + j]];
        if (GATING == 3) weight = exp(weight - top);
        if (GATING == 4) weight = sigmoid(weight);
        weights.v[row * K + j] = weight;
        sum += weight;
    }
    float by = factor / (GATING == 3 ? sum : 1);
    if (NORM) by = factor / max(sum, GATING == 3 ? norm_min * sum : norm_min);
    for (uint j = 0; j < K; j++) weights.v[row * K + j] *= by;
}
