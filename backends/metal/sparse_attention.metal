// Made by backends/_metal_shaders.py of vulkan/sparse_attention.comp: change that file.
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
struct F16;
struct U16;

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

struct F32
{
    float v[1];
};

struct F16
{
    half v[1];
};

struct U16
{
    ushort v[1];
};

#ifndef SPIRV_CROSS_CONSTANT_ID_4
#define SPIRV_CROSS_CONSTANT_ID_4 false
#endif
constant bool KEYS_ONLY = SPIRV_CROSS_CONSTANT_ID_4;
#ifndef SPIRV_CROSS_CONSTANT_ID_0
#define SPIRV_CROSS_CONSTANT_ID_0 0u
#endif
constant uint KEYS = SPIRV_CROSS_CONSTANT_ID_0;
#ifndef SPIRV_CROSS_CONSTANT_ID_1
#define SPIRV_CROSS_CONSTANT_ID_1 0u
#endif
constant uint VALUES = SPIRV_CROSS_CONSTANT_ID_1;

struct Arguments
{
    device Run* run;
    device F32* q;
    device F32* chosen;
    device F32* y;
    ulong pages;
    device F32* lists;
    device F32* sinks;
    uint ldq;
    uint ldc;
    uint ldy;
    uint n_kv_heads;
    uint heads_per_key;
    uint head_bytes;
    uint key_bytes;
    uint page_bytes;
    uint cache;
    uint n_caches;
    float scale;
};

#ifndef SPIRV_CROSS_CONSTANT_ID_3
#define SPIRV_CROSS_CONSTANT_ID_3 64u
#endif
constant uint DV = SPIRV_CROSS_CONSTANT_ID_3;
#ifndef SPIRV_CROSS_CONSTANT_ID_5
#define SPIRV_CROSS_CONSTANT_ID_5 false
#endif
constant bool JOINT = SPIRV_CROSS_CONSTANT_ID_5;
#ifndef SPIRV_CROSS_CONSTANT_ID_2
#define SPIRV_CROSS_CONSTANT_ID_2 64u
#endif
constant uint DK = SPIRV_CROSS_CONSTANT_ID_2;
#ifndef SPIRV_CROSS_CONSTANT_ID_6
#define SPIRV_CROSS_CONSTANT_ID_6 false
#endif
constant bool SINKS = SPIRV_CROSS_CONSTANT_ID_6;
constant int _457 = int(SINKS);
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(64u, 1u, 1u);

constant spvUnsafeArray<float, 16> _778 = spvUnsafeArray<float, 16>({ -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0 });

static inline __attribute__((always_inline))
uint group_of_row(thread uint3& gl_WorkGroupID, thread uint3& gl_NumWorkGroups)
{
    return gl_WorkGroupID.x + (gl_WorkGroupID.z * gl_NumWorkGroups.x);
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
int position_of(device Run* const thread & run, thread const uint& segment, thread const uint& row)
{
    device Run* param = run;
    uint param_1 = segment;
    uint param_2 = 2u;
    int _166 = word_of(param, param_1, param_2);
    uint _167 = row;
    device Run* param_3 = run;
    uint param_4 = segment;
    uint param_5 = 0u;
    return (_166 + int(_167)) - word_of(param_3, param_4, param_5);
}

static inline __attribute__((always_inline))
ulong page_of(device Run* const thread & run, thread const uint& segment, thread const uint& n_caches, thread const uint& cache, thread const uint& block, thread const ulong& pages, thread const uint& page_bytes)
{
    device U32* tables = reinterpret_cast<device U32*>(run->tables);
    uint entry = ((segment * n_caches) + cache) * 2u;
    uint page = tables->v[tables->v[entry] + (block % tables->v[entry + 1u])];
    return pages + (ulong(page) * ulong(page_bytes));
}

static inline __attribute__((always_inline))
float load_number(thread const uint& type, thread const ulong& base, thread const uint& i)
{
    if (type == 0u)
    {
        return (reinterpret_cast<device F32*>(base))->v[i];
    }
    if (type == 1u)
    {
        return float((reinterpret_cast<device F16*>(base))->v[i]);
    }
    return as_type<float>(uint((reinterpret_cast<device U16*>(base))->v[i]) << uint(16));
}

static inline __attribute__((always_inline))
float max64(thread const float& x, thread uint3& gl_LocalInvocationID, threadgroup float (&lanes)[64])
{
    uint lane = gl_LocalInvocationID.x;
    lanes[lane] = x;
    for (uint _step = 32u; _step > 0u; _step = _step >> uint(1))
    {
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (lane < _step)
        {
            lanes[lane] = fast::max(lanes[lane], lanes[lane + _step]);
        }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    float top = lanes[0];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    return top;
}

static inline __attribute__((always_inline))
float sum64(thread const float& x, thread uint3& gl_LocalInvocationID, threadgroup float (&lanes)[64])
{
    uint lane = gl_LocalInvocationID.x;
    lanes[lane] = x;
    for (uint _step = 32u; _step > 0u; _step = _step >> uint(1))
    {
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (lane < _step)
        {
            lanes[lane] += lanes[lane + _step];
        }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    float total = lanes[0];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    return total;
}

static inline __attribute__((always_inline))
float value_of(thread const ulong& head, thread const uint& cell, thread const uint& i, constant Arguments& v_328)
{
    if (KEYS_ONLY)
    {
        uint param = KEYS;
        ulong param_1 = head;
        uint param_2 = (i * 64u) + cell;
        return load_number(param, param_1, param_2);
    }
    uint param_3 = VALUES;
    ulong param_4 = head + ulong(v_328.key_bytes);
    uint param_5 = (cell * DV) + i;
    return load_number(param_3, param_4, param_5);
}

kernel void main0(constant Arguments& v_328 [[buffer(0)]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]], uint3 gl_NumWorkGroups [[threadgroups_per_grid]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    threadgroup float lanes[64];
    threadgroup float query[DK];
    threadgroup float sum[DV];
    threadgroup float weights[64];
    threadgroup ulong heads[64];
    threadgroup uint cells[64];
    uint row = gl_WorkGroupID.y;
    uint own = group_of_row(gl_WorkGroupID, gl_NumWorkGroups);
    uint lane = gl_LocalInvocationID.x;
    if (row >= v_328.run->n_tokens)
    {
        return;
    }
    device Run* param = v_328.run;
    uint param_1 = row;
    uint segment = segment_of(param, param_1);
    uint _373;
    if (JOINT)
    {
        _373 = 0u;
    }
    else
    {
        _373 = own / v_328.heads_per_key;
    }
    uint first = _373;
    device Run* param_2 = v_328.run;
    uint param_3 = segment;
    uint param_4 = row;
    float position = float(position_of(param_2, param_3, param_4));
    for (uint i = lane; i < DK; i += 64u)
    {
        query[i] = v_328.q->v[((row * v_328.ldq) + (own * DK)) + i];
    }
    for (uint i_1 = lane; i_1 < DV; i_1 += 64u)
    {
        sum[i_1] = 0.0;
    }
    float _444;
    if (SINKS)
    {
        _444 = v_328.sinks->v[own];
    }
    else
    {
        _444 = -1000000015047466219876688855040.0;
    }
    float top = _444;
    float total = float(_457);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    uint _467;
    uint _537;
    float _628;
    uint group = first;
    for (;;)
    {
        if (JOINT)
        {
            _467 = v_328.n_kv_heads;
        }
        else
        {
            _467 = first + 1u;
        }
        if (group < _467)
        {
            uint _486 = uint(v_328.lists->v[2u * group]);
            uint end = uint(v_328.lists->v[(2u * group) + 1u]);
            for (uint start = _486; start < end; start += 64u)
            {
                float number = -1.0;
                float score = 0.0;
                if ((start + lane) < end)
                {
                    number = v_328.chosen->v[((row * v_328.ldc) + start) + lane];
                }
                bool seen = (number >= 0.0) && (number <= position);
                if (seen)
                {
                    _537 = uint(number);
                }
                else
                {
                    _537 = 0u;
                }
                uint s = _537;
                ulong head = 0ul;
                if (seen)
                {
                    uint _550 = s;
                    device Run* param_5 = v_328.run;
                    uint param_6 = segment;
                    uint param_7 = v_328.n_caches;
                    uint param_8 = v_328.cache;
                    uint param_9 = _550 / 64u;
                    ulong param_10 = v_328.pages;
                    uint param_11 = v_328.page_bytes;
                    head = page_of(param_5, param_6, param_7, param_8, param_9, param_10, param_11) + ulong(group * v_328.head_bytes);
                    for (uint i_2 = 0u; i_2 < DK; i_2++)
                    {
                        uint param_12 = KEYS;
                        ulong param_13 = head;
                        uint param_14 = (i_2 * 64u) + (s % 64u);
                        score += (query[i_2] * load_number(param_12, param_13, param_14));
                    }
                    score *= v_328.scale;
                }
                float before = top;
                float param_15 = seen ? score : (-1000000015047466219876688855040.0);
                float _619 = max64(param_15, gl_LocalInvocationID, lanes);
                top = fast::max(top, _619);
                float kept = exp(before - top);
                if (seen)
                {
                    _628 = exp(score - top);
                }
                else
                {
                    _628 = 0.0;
                }
                float weight = _628;
                weights[lane] = weight;
                heads[lane] = head;
                cells[lane] = s % 64u;
                float param_16 = weight;
                float _661 = sum64(param_16, gl_LocalInvocationID, lanes);
                total = (total * kept) + _661;
                for (uint i_3 = lane; i_3 < DV; i_3 += 64u)
                {
                    float part = 0.0;
                    for (uint j = 0u; j < 64u; j++)
                    {
                        if (heads[j] != 0ul)
                        {
                            ulong param_17 = heads[j];
                            uint param_18 = cells[j];
                            uint param_19 = i_3;
                            part += (weights[j] * value_of(param_17, param_18, param_19, v_328));
                        }
                    }
                    sum[i_3] = (sum[i_3] * kept) + part;
                }
                threadgroup_barrier(mem_flags::mem_threadgroup);
            }
            group++;
            continue;
        }
        else
        {
            break;
        }
    }
    float _744;
    for (uint i_4 = lane; i_4 < DV; i_4 += 64u)
    {
        if (total > 0.0)
        {
            _744 = sum[i_4] / total;
        }
        else
        {
            _744 = 0.0;
        }
        v_328.y->v[((row * v_328.ldy) + (own * DV)) + i_4] = _744;
    }
}

