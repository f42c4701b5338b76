// Made by backends/_metal_shaders.py of vulkan/sparse_attention.comp: change that file.
#pragma clang diagnostic ignored "-Wmissing-prototypes"

#include <metal_stdlib>
#include <simd/simd.h>

using namespace metal;

struct Run;
struct F32;
struct F16;
struct U16;
struct U32;
struct Segments;

struct Run
{
    uint n_tokens;
    uint n_outputs;
    ulong segments;
    ulong tables;
    ulong row_segments;
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

struct U32
{
    uint v[1];
};

struct Segments
{
    int v[1];
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
constant int _455 = int(SINKS);
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(64u, 1u, 1u);

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
    int _211 = word_of(param, param_1, param_2);
    uint _212 = row;
    device Run* param_3 = run;
    uint param_4 = segment;
    uint param_5 = 0u;
    return (_211 + int(_212)) - word_of(param_3, param_4, param_5);
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
float value_of(thread const ulong& head, thread const uint& cell, thread const uint& i, constant Arguments& v_326)
{
    if (KEYS_ONLY)
    {
        uint param = KEYS;
        ulong param_1 = head;
        uint param_2 = (i * 64u) + cell;
        return load_number(param, param_1, param_2);
    }
    uint param_3 = VALUES;
    ulong param_4 = head + ulong(v_326.key_bytes);
    uint param_5 = (cell * DV) + i;
    return load_number(param_3, param_4, param_5);
}

kernel void main0(constant Arguments& v_326 [[buffer(0)]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]], uint3 gl_NumWorkGroups [[threadgroups_per_grid]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
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
    if (row >= v_326.run->n_tokens)
    {
        return;
    }
    device Run* param = v_326.run;
    uint param_1 = row;
    uint segment = segment_of(param, param_1);
    uint _371;
    if (JOINT)
    {
        _371 = 0u;
    }
    else
    {
        _371 = own / v_326.heads_per_key;
    }
    uint first = _371;
    device Run* param_2 = v_326.run;
    uint param_3 = segment;
    uint param_4 = row;
    float position = float(position_of(param_2, param_3, param_4));
    for (uint i = lane; i < DK; i += 64u)
    {
        query[i] = v_326.q->v[((row * v_326.ldq) + (own * DK)) + i];
    }
    for (uint i_1 = lane; i_1 < DV; i_1 += 64u)
    {
        sum[i_1] = 0.0;
    }
    float _442;
    if (SINKS)
    {
        _442 = v_326.sinks->v[own];
    }
    else
    {
        _442 = -1000000015047466219876688855040.0;
    }
    float top = _442;
    float total = float(_455);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    uint _465;
    uint _535;
    float _626;
    uint group = first;
    for (;;)
    {
        if (JOINT)
        {
            _465 = v_326.n_kv_heads;
        }
        else
        {
            _465 = first + 1u;
        }
        if (group < _465)
        {
            uint _484 = uint(v_326.lists->v[2u * group]);
            uint end = uint(v_326.lists->v[(2u * group) + 1u]);
            for (uint start = _484; start < end; start += 64u)
            {
                float number = -1.0;
                float score = 0.0;
                if ((start + lane) < end)
                {
                    number = v_326.chosen->v[((row * v_326.ldc) + start) + lane];
                }
                bool seen = (number >= 0.0) && (number <= position);
                if (seen)
                {
                    _535 = uint(number);
                }
                else
                {
                    _535 = 0u;
                }
                uint s = _535;
                ulong head = 0ul;
                if (seen)
                {
                    uint _548 = s;
                    device Run* param_5 = v_326.run;
                    uint param_6 = segment;
                    uint param_7 = v_326.n_caches;
                    uint param_8 = v_326.cache;
                    uint param_9 = _548 / 64u;
                    ulong param_10 = v_326.pages;
                    uint param_11 = v_326.page_bytes;
                    head = page_of(param_5, param_6, param_7, param_8, param_9, param_10, param_11) + ulong(group * v_326.head_bytes);
                    for (uint i_2 = 0u; i_2 < DK; i_2++)
                    {
                        uint param_12 = KEYS;
                        ulong param_13 = head;
                        uint param_14 = (i_2 * 64u) + (s % 64u);
                        score += (query[i_2] * load_number(param_12, param_13, param_14));
                    }
                    score *= v_326.scale;
                }
                float before = top;
                float param_15 = seen ? score : (-1000000015047466219876688855040.0);
                float _617 = max64(param_15, gl_LocalInvocationID, lanes);
                top = fast::max(top, _617);
                float kept = exp(before - top);
                if (seen)
                {
                    _626 = exp(score - top);
                }
                else
                {
                    _626 = 0.0;
                }
                float weight = _626;
                weights[lane] = weight;
                heads[lane] = head;
                cells[lane] = s % 64u;
                float param_16 = weight;
                float _659 = sum64(param_16, gl_LocalInvocationID, lanes);
                total = (total * kept) + _659;
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
                            part += (weights[j] * value_of(param_17, param_18, param_19, v_326));
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
    float _742;
    for (uint i_4 = lane; i_4 < DV; i_4 += 64u)
    {
        if (total > 0.0)
        {
            _742 = sum[i_4] / total;
        }
        else
        {
            _742 = 0.0;
        }
        v_326.y->v[((row * v_326.ldy) + (own * DV)) + i_4] = _742;
    }
}

