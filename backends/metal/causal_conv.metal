// Made by backends/_metal_shaders.py of vulkan/causal_conv.comp: change that file.
#pragma clang diagnostic ignored "-Wmissing-prototypes"

#include <metal_stdlib>
#include <simd/simd.h>

using namespace metal;

struct Run;
struct U32;
struct Segments;
struct F32;

struct Run
{
    uint n_tokens;
    uint n_outputs;
    ulong segments;
    ulong tables;
    ulong row_segments;
};

struct U32
{
    uint v[1];
};

struct Segments
{
    int v[1];
};

struct Arguments
{
    device Run* run;
    device F32* x;
    device F32* y;
    device F32* w;
    device F32* bias0;
    ulong states;
    uint ldx;
    uint ldy;
    uint width;
    uint slot_bytes;
};

struct F32
{
    float v[1];
};

#ifndef SPIRV_CROSS_CONSTANT_ID_0
#define SPIRV_CROSS_CONSTANT_ID_0 4u
#endif
constant uint TAPS = SPIRV_CROSS_CONSTANT_ID_0;
constant int _210 = int(TAPS + 0u);
constant int _211 = (_210 - 1);
constant int _290 = int(TAPS + 0u);
#ifndef SPIRV_CROSS_CONSTANT_ID_1
#define SPIRV_CROSS_CONSTANT_ID_1 false
#endif
constant bool BIASED = SPIRV_CROSS_CONSTANT_ID_1;
#ifndef SPIRV_CROSS_CONSTANT_ID_2
#define SPIRV_CROSS_CONSTANT_ID_2 false
#endif
constant bool SILU = SPIRV_CROSS_CONSTANT_ID_2;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(64u, 1u, 1u);

static inline __attribute__((always_inline))
uint group_of_row(thread uint3& gl_WorkGroupID, thread uint3& gl_NumWorkGroups)
{
    return gl_WorkGroupID.x + (gl_WorkGroupID.z * gl_NumWorkGroups.x);
}

static inline __attribute__((always_inline))
uint column(thread uint3& gl_WorkGroupID, thread uint3& gl_NumWorkGroups, thread uint3& gl_LocalInvocationID)
{
    return (group_of_row(gl_WorkGroupID, gl_NumWorkGroups) * 64u) + gl_LocalInvocationID.x;
}

static inline __attribute__((always_inline))
uint segment_of(device Run* const thread & run, thread const uint& row)
{
    return (reinterpret_cast<device U32*>(run->row_segments))->v[row];
}

static inline __attribute__((always_inline))
int word_of(device Run* const thread & run, thread const uint& segment, thread const uint& word)
{
    return (reinterpret_cast<device Segments*>(run->segments))->v[(segment * 8u) + word];
}

static inline __attribute__((always_inline))
ulong state_before(device Run* const thread & run, thread const uint& segment, thread const ulong& states, thread const uint& slot_bytes)
{
    device Run* param = run;
    uint param_1 = segment;
    uint param_2 = 4u;
    int slot = word_of(param, param_1, param_2);
    ulong _133;
    if (slot < 0)
    {
        _133 = 0ul;
    }
    else
    {
        _133 = states + (ulong(long(slot)) * ulong(slot_bytes));
    }
    return _133;
}

static inline __attribute__((always_inline))
float earlier(thread const uint& first, thread const int& t, thread const ulong& before, thread const uint& i, constant Arguments& v_183)
{
    if (t >= 0)
    {
        return v_183.x->v[((first + uint(t)) * v_183.ldx) + i];
    }
    if (before != 0ul)
    {
        return (reinterpret_cast<device F32*>(before))->v[(uint(_211 + t) * v_183.width) + i];
    }
    return 0.0;
}

static inline __attribute__((always_inline))
float sigmoid(thread const float& x)
{
    return 1.0 / (1.0 + exp(-x));
}

static inline __attribute__((always_inline))
ulong state_behind(device Run* const thread & run, thread const uint& segment, thread const ulong& states, thread const uint& slot_bytes)
{
    ulong _150 = states;
    device Run* param = run;
    uint param_1 = segment;
    uint param_2 = 5u;
    return _150 + (ulong(long(word_of(param, param_1, param_2))) * ulong(slot_bytes));
}

kernel void main0(constant Arguments& v_183 [[buffer(0)]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]], uint3 gl_NumWorkGroups [[threadgroups_per_grid]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    uint i = column(gl_WorkGroupID, gl_NumWorkGroups, gl_LocalInvocationID);
    uint row = gl_WorkGroupID.y;
    bool _239 = row >= v_183.run->n_tokens;
    bool _247;
    if (!_239)
    {
        _247 = i >= v_183.width;
    }
    else
    {
        _247 = _239;
    }
    if (_247)
    {
        return;
    }
    device Run* param = v_183.run;
    uint param_1 = row;
    uint segment = segment_of(param, param_1);
    device Run* param_2 = v_183.run;
    uint param_3 = segment;
    uint param_4 = 0u;
    uint first = uint(word_of(param_2, param_3, param_4));
    device Run* param_5 = v_183.run;
    uint param_6 = segment;
    ulong param_7 = v_183.states;
    uint param_8 = v_183.slot_bytes;
    ulong before = state_before(param_5, param_6, param_7, param_8);
    int t = int(row - first);
    int start = (t - _290) + 1;
    float sum = 0.0;
    for (uint j = 0u; j < TAPS; j++)
    {
        uint param_9 = first;
        int param_10 = start + int(j);
        ulong param_11 = before;
        uint param_12 = i;
        sum += (earlier(param_9, param_10, param_11, param_12, v_183) * v_183.w->v[(j * v_183.width) + i]);
    }
    if (BIASED)
    {
        sum += v_183.bias0->v[i];
    }
    if (SILU)
    {
        float param_13 = sum;
        sum *= sigmoid(param_13);
    }
    v_183.y->v[(row * v_183.ldy) + i] = sum;
    int _359 = t;
    device Run* param_14 = v_183.run;
    uint param_15 = segment;
    uint param_16 = 1u;
    if ((_359 + 1) < word_of(param_14, param_15, param_16))
    {
        return;
    }
    device Run* param_17 = v_183.run;
    uint param_18 = segment;
    ulong param_19 = v_183.states;
    uint param_20 = v_183.slot_bytes;
    device F32* behind = reinterpret_cast<device F32*>(state_behind(param_17, param_18, param_19, param_20));
    for (uint j_1 = 1u; j_1 < TAPS; j_1++)
    {
        uint param_21 = first;
        int param_22 = start + int(j_1);
        ulong param_23 = before;
        uint param_24 = i;
        behind->v[((j_1 - 1u) * v_183.width) + i] = earlier(param_21, param_22, param_23, param_24, v_183);
    }
}

