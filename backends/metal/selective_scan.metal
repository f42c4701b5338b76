// Made by backends/_metal_shaders.py of vulkan/selective_scan.comp: change that file.
#pragma clang diagnostic ignored "-Wmissing-prototypes"
#pragma clang diagnostic ignored "-Wmissing-braces"

#include <metal_stdlib>
#include <simd/simd.h>

using namespace metal;

template<typename T, size_t Num>
struct spvUnsafeArray
{
    T elements[Num ? Num : 1];
    
    thread T& operator [] (size_t pos) thread
    {
        return elements[pos];
    }
    constexpr const thread T& operator [] (size_t pos) const thread
    {
        return elements[pos];
    }
    
    device T& operator [] (size_t pos) device
    {
        return elements[pos];
    }
    constexpr const device T& operator [] (size_t pos) const device
    {
        return elements[pos];
    }
    
    constexpr const constant T& operator [] (size_t pos) const constant
    {
        return elements[pos];
    }
    
    threadgroup T& operator [] (size_t pos) threadgroup
    {
        return elements[pos];
    }
    constexpr const threadgroup T& operator [] (size_t pos) const threadgroup
    {
        return elements[pos];
    }
};

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
    device F32* b;
    device F32* c;
    device F32* steps;
    device F32* y;
    device F32* a;
    device F32* d;
    ulong states;
    uint ldx;
    uint ldb;
    uint ldc;
    uint lds;
    uint ldy;
    uint width;
    uint slot_bytes;
};

struct F32
{
    float v[1];
};

#ifndef SPIRV_CROSS_CONSTANT_ID_0
#define SPIRV_CROSS_CONSTANT_ID_0 16u
#endif
constant uint N = SPIRV_CROSS_CONSTANT_ID_0;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(64u, 1u, 1u);

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
uint end_of_segment(device Run* const thread & run, thread const uint& row)
{
    if (row >= run->n_tokens)
    {
        return 0u;
    }
    device Run* param = run;
    uint param_1 = row;
    uint segment = segment_of(param, param_1);
    device Run* param_2 = run;
    uint param_3 = segment;
    uint param_4 = 0u;
    bool begins = word_of(param_2, param_3, param_4) == int(row);
    uint _145;
    if (begins)
    {
        uint _148 = row;
        device Run* param_5 = run;
        uint param_6 = segment;
        uint param_7 = 1u;
        _145 = _148 + uint(word_of(param_5, param_6, param_7));
    }
    else
    {
        _145 = 0u;
    }
    return _145;
}

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
ulong state_before(device Run* const thread & run, thread const uint& segment, thread const ulong& states, thread const uint& slot_bytes)
{
    device Run* param = run;
    uint param_1 = segment;
    uint param_2 = 4u;
    int slot = word_of(param, param_1, param_2);
    ulong _173;
    if (slot < 0)
    {
        _173 = 0ul;
    }
    else
    {
        _173 = states + (ulong(long(slot)) * ulong(slot_bytes));
    }
    return _173;
}

static inline __attribute__((always_inline))
ulong state_behind(device Run* const thread & run, thread const uint& segment, thread const ulong& states, thread const uint& slot_bytes)
{
    ulong _190 = states;
    device Run* param = run;
    uint param_1 = segment;
    uint param_2 = 5u;
    return _190 + (ulong(long(word_of(param, param_1, param_2))) * ulong(slot_bytes));
}

static inline __attribute__((always_inline))
float softplus(thread const float& x)
{
    float e = exp(-abs(x));
    float s = e / (2.0 + e);
    float z = s * s;
    float p = 0.111111111938953399658203125 + (z * (0.0909090936183929443359375 + (z * (0.076923079788684844970703125 + (z / 15.0)))));
    return fast::max(x, 0.0) + (2.0 * (s + ((s * z) * (0.3333333432674407958984375 + (z * (0.20000000298023223876953125 + (z * (0.14285714924335479736328125 + (z * p)))))))));
}

kernel void main0(constant Arguments& _270 [[buffer(0)]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]], uint3 gl_NumWorkGroups [[threadgroups_per_grid]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    uint row = gl_WorkGroupID.y;
    device Run* param = _270.run;
    uint param_1 = row;
    uint end = end_of_segment(param, param_1);
    uint i = column(gl_WorkGroupID, gl_NumWorkGroups, gl_LocalInvocationID);
    uint at = (((i / 16u) * 16u) * N) + (i % 16u);
    bool _292 = row >= end;
    bool _305;
    if (!_292)
    {
        _305 = (i / 16u) > ((_270.width - 1u) / 16u);
    }
    else
    {
        _305 = _292;
    }
    if (_305)
    {
        return;
    }
    device Run* param_2 = _270.run;
    uint param_3 = row;
    uint segment = segment_of(param_2, param_3);
    device Run* param_4 = _270.run;
    uint param_5 = segment;
    ulong param_6 = _270.states;
    uint param_7 = _270.slot_bytes;
    ulong before = state_before(param_4, param_5, param_6, param_7);
    device Run* param_8 = _270.run;
    uint param_9 = segment;
    ulong param_10 = _270.states;
    uint param_11 = _270.slot_bytes;
    device F32* behind = reinterpret_cast<device F32*>(state_behind(param_8, param_9, param_10, param_11));
    spvUnsafeArray<float, N> state;
    spvUnsafeArray<float, N> rates;
    for (uint j = 0u; j < N; j++)
    {
        state[j] = 0.0;
        rates[j] = _270.a->v[at + (16u * j)];
        bool _375 = before != 0ul;
        bool _382;
        if (_375)
        {
            _382 = i < _270.width;
        }
        else
        {
            _382 = _375;
        }
        if (_382)
        {
            state[j] = (reinterpret_cast<device F32*>(before))->v[at + (16u * j)];
        }
    }
    if (i < _270.width)
    {
        float skip = _270.d->v[i];
        for (uint t = row; t < end; t++)
        {
            float value = _270.x->v[(t * _270.ldx) + i];
            float param_12 = _270.steps->v[(t * _270.lds) + i];
            float time = softplus(param_12);
            float total = 0.0;
            for (uint j_1 = 0u; j_1 < N; j_1++)
            {
                state[j_1] = (state[j_1] * exp(rates[j_1] * time)) + (_270.b->v[(t * _270.ldb) + j_1] * (value * time));
                total += (state[j_1] * _270.c->v[(t * _270.ldc) + j_1]);
            }
            _270.y->v[(t * _270.ldy) + i] = total + (value * skip);
        }
    }
    for (uint j_2 = 0u; j_2 < N; j_2++)
    {
        behind->v[at + (16u * j_2)] = state[j_2];
    }
}

