// Made by backends/_metal_shaders.py of vulkan/ssm_scan.comp: change that file.
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

#ifndef SPIRV_CROSS_CONSTANT_ID_3
#define SPIRV_CROSS_CONSTANT_ID_3 16u
#endif
constant uint N = SPIRV_CROSS_CONSTANT_ID_3;
constant uint _290 = (N + 3u);
constant uint PART = (_290 / 4u);
constant uint _300 = (N % 4u);
constant bool _301 = (_300 == 0u);
#ifndef SPIRV_CROSS_CONSTANT_ID_2
#define SPIRV_CROSS_CONSTANT_ID_2 64u
#endif
constant uint COLUMNS = SPIRV_CROSS_CONSTANT_ID_2;

struct F32
{
    float v[1];
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
    device F32* shift;
    ulong states;
    uint ldx;
    uint ldb;
    uint ldc;
    uint lds;
    uint ldy;
    uint slot_bytes;
};

constant uint _452 = (COLUMNS + 15u);
constant uint _453 = (_452 / 16u);
#ifndef SPIRV_CROSS_CONSTANT_ID_0
#define SPIRV_CROSS_CONSTANT_ID_0 1u
#endif
constant uint HEADS = SPIRV_CROSS_CONSTANT_ID_0;
#ifndef SPIRV_CROSS_CONSTANT_ID_1
#define SPIRV_CROSS_CONSTANT_ID_1 1u
#endif
constant uint GROUPS = SPIRV_CROSS_CONSTANT_ID_1;
constant uint _475 = (HEADS / GROUPS);
constant ulong _497 = ulong(N);
constant ulong _499 = ulong(COLUMNS);
#ifndef SPIRV_CROSS_CONSTANT_ID_5
#define SPIRV_CROSS_CONSTANT_ID_5 false
#endif
constant bool SKIP = SPIRV_CROSS_CONSTANT_ID_5;
#ifndef SPIRV_CROSS_CONSTANT_ID_6
#define SPIRV_CROSS_CONSTANT_ID_6 false
#endif
constant bool SHIFTED = SPIRV_CROSS_CONSTANT_ID_6;
#ifndef SPIRV_CROSS_CONSTANT_ID_4
#define SPIRV_CROSS_CONSTANT_ID_4 false
#endif
constant bool STEPS = SPIRV_CROSS_CONSTANT_ID_4;
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
    uint _161;
    if (begins)
    {
        uint _164 = row;
        device Run* param_5 = run;
        uint param_6 = segment;
        uint param_7 = 1u;
        _161 = _164 + uint(word_of(param_5, param_6, param_7));
    }
    else
    {
        _161 = 0u;
    }
    return _161;
}

static inline __attribute__((always_inline))
uint group_of_row(thread uint3& gl_WorkGroupID, thread uint3& gl_NumWorkGroups)
{
    return gl_WorkGroupID.x + (gl_WorkGroupID.z * gl_NumWorkGroups.x);
}

static inline __attribute__((always_inline))
uint column_of_lane(thread const uint& block, thread uint3& gl_LocalInvocationID)
{
    return (16u * block) + (gl_LocalInvocationID.x & 15u);
}

static inline __attribute__((always_inline))
ulong state_before(device Run* const thread & run, thread const uint& segment, thread const ulong& states, thread const uint& slot_bytes)
{
    device Run* param = run;
    uint param_1 = segment;
    uint param_2 = 4u;
    int slot = word_of(param, param_1, param_2);
    ulong _189;
    if (slot < 0)
    {
        _189 = 0ul;
    }
    else
    {
        _189 = states + (ulong(long(slot)) * ulong(slot_bytes));
    }
    return _189;
}

static inline __attribute__((always_inline))
uint row_of(thread const uint& i, thread uint3& gl_LocalInvocationID)
{
    return (PART * (gl_LocalInvocationID.x >> uint(4))) + i;
}

static inline __attribute__((always_inline))
bool has(thread const uint& i, thread uint3& gl_LocalInvocationID)
{
    bool _309;
    if (!_301)
    {
        uint param = i;
        _309 = row_of(param, gl_LocalInvocationID) < N;
    }
    else
    {
        _309 = _301;
    }
    return _309;
}

static inline __attribute__((always_inline))
void load_state(thread const ulong& at, thread const uint& column, thread uint3& gl_LocalInvocationID, thread spvUnsafeArray<float, PART>& state)
{
    for (uint i = 0u; i < PART; i++)
    {
        state[i] = 0.0;
        bool _332 = at != 0ul;
        bool _338;
        if (_332)
        {
            uint param = i;
            _338 = has(param, gl_LocalInvocationID);
        }
        else
        {
            _338 = _332;
        }
        if (_338 && (column < COLUMNS))
        {
            uint param_1 = i;
            state[i] = (reinterpret_cast<device F32*>(at))->v[(row_of(param_1, gl_LocalInvocationID) * COLUMNS) + column];
        }
    }
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

static inline __attribute__((always_inline))
float over_parts(thread const float& x, thread uint3& gl_LocalInvocationID, threadgroup float (&parts)[64])
{
    uint lane = gl_LocalInvocationID.x;
    uint first = lane & 15u;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    parts[lane] = x;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    return (parts[first] + parts[first + 16u]) + (parts[first + 32u] + parts[first + 48u]);
}

static inline __attribute__((always_inline))
bool is_first_part(thread uint3& gl_LocalInvocationID)
{
    return gl_LocalInvocationID.x < 16u;
}

static inline __attribute__((always_inline))
ulong state_behind(device Run* const thread & run, thread const uint& segment, thread const ulong& states, thread const uint& slot_bytes)
{
    ulong _206 = states;
    device Run* param = run;
    uint param_1 = segment;
    uint param_2 = 5u;
    return _206 + (ulong(long(word_of(param, param_1, param_2))) * ulong(slot_bytes));
}

static inline __attribute__((always_inline))
void store_state(thread const ulong& at, thread const uint& column, thread uint3& gl_LocalInvocationID, thread spvUnsafeArray<float, PART>& state)
{
    for (uint i = 0u; i < PART; i++)
    {
        uint param = i;
        if (has(param, gl_LocalInvocationID) && (column < COLUMNS))
        {
            uint param_1 = i;
            (reinterpret_cast<device F32*>(at))->v[(row_of(param_1, gl_LocalInvocationID) * COLUMNS) + column] = state[i];
        }
    }
}

kernel void main0(constant Arguments& _437 [[buffer(0)]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]], uint3 gl_NumWorkGroups [[threadgroups_per_grid]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    threadgroup float parts[64];
    uint row = gl_WorkGroupID.y;
    device Run* param = _437.run;
    uint param_1 = row;
    uint end = end_of_segment(param, param_1);
    spvUnsafeArray<float, PART> state;
    if (row >= end)
    {
        return;
    }
    uint blocks = _453;
    device Run* param_2 = _437.run;
    uint param_3 = row;
    uint segment = segment_of(param_2, param_3);
    uint head = group_of_row(gl_WorkGroupID, gl_NumWorkGroups) / blocks;
    uint param_4 = group_of_row(gl_WorkGroupID, gl_NumWorkGroups) % blocks;
    uint i = column_of_lane(param_4, gl_LocalInvocationID);
    uint group = head / _475;
    device Run* param_5 = _437.run;
    uint param_6 = segment;
    ulong param_7 = _437.states;
    uint param_8 = _437.slot_bytes;
    ulong before = state_before(param_5, param_6, param_7, param_8);
    ulong own = ((ulong(head) * _497) * _499) * 4ul;
    ulong _505;
    if (before == 0ul)
    {
        _505 = 0ul;
    }
    else
    {
        _505 = before + own;
    }
    ulong param_9 = _505;
    uint param_10 = i;
    load_state(param_9, param_10, gl_LocalInvocationID, state);
    float rate = _437.a->v[head];
    float skip = 0.0;
    float moved = 0.0;
    float decay = exp(rate);
    if (SKIP)
    {
        skip = _437.d->v[head];
    }
    if (SHIFTED)
    {
        moved = _437.shift->v[head];
    }
    for (uint t = row; t < end; t++)
    {
        uint keys = (t * _437.ldb) + (group * N);
        uint queries = (t * _437.ldc) + (group * N);
        float raw = 0.0;
        float total = 0.0;
        if (i < COLUMNS)
        {
            raw = _437.x->v[((t * _437.ldx) + (head * COLUMNS)) + i];
        }
        float value = raw;
        if (STEPS)
        {
            float param_11 = _437.steps->v[(t * _437.lds) + head] + moved;
            float time = softplus(param_11);
            value *= time;
            decay = exp(time * rate);
        }
        for (uint j = 0u; j < PART; j++)
        {
            uint param_12 = j;
            if (!has(param_12, gl_LocalInvocationID))
            {
                continue;
            }
            uint param_13 = j;
            state[j] = (state[j] * decay) + (_437.b->v[keys + row_of(param_13, gl_LocalInvocationID)] * value);
            uint param_14 = j;
            total += (state[j] * _437.c->v[queries + row_of(param_14, gl_LocalInvocationID)]);
        }
        float param_15 = total;
        float _678 = over_parts(param_15, gl_LocalInvocationID, parts);
        total = _678;
        if (is_first_part(gl_LocalInvocationID) && (i < COLUMNS))
        {
            _437.y->v[((t * _437.ldy) + (head * COLUMNS)) + i] = total + (raw * skip);
        }
    }
    device Run* param_16 = _437.run;
    uint param_17 = segment;
    ulong param_18 = _437.states;
    uint param_19 = _437.slot_bytes;
    ulong param_20 = state_behind(param_16, param_17, param_18, param_19) + own;
    uint param_21 = i;
    store_state(param_20, param_21, gl_LocalInvocationID, state);
}

