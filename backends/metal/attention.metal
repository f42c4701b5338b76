// Made by backends/_metal_shaders.py of vulkan/attention.comp: change that file.
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

struct Arguments
{
    device Run* run;
    device F32* q;
    device F32* y;
    ulong pages;
    ulong values;
    device F32* sinks;
    device F32* terms;
    uint ldq;
    uint ldy;
    uint heads_per_key;
    uint head_bytes;
    uint key_bytes;
    uint page_bytes;
    uint caches;
    uint window;
    float scale;
    float cap;
    uint ldk;
    uint ldv;
};

#ifndef SPIRV_CROSS_CONSTANT_ID_6
#define SPIRV_CROSS_CONSTANT_ID_6 false
#endif
constant bool CROSS = SPIRV_CROSS_CONSTANT_ID_6;
constant bool _407 = (!CROSS);
#ifndef SPIRV_CROSS_CONSTANT_ID_4
#define SPIRV_CROSS_CONSTANT_ID_4 true
#endif
constant bool CAUSAL = SPIRV_CROSS_CONSTANT_ID_4;
#ifndef SPIRV_CROSS_CONSTANT_ID_5
#define SPIRV_CROSS_CONSTANT_ID_5 false
#endif
constant bool CHUNKED = SPIRV_CROSS_CONSTANT_ID_5;
#ifndef SPIRV_CROSS_CONSTANT_ID_7
#define SPIRV_CROSS_CONSTANT_ID_7 false
#endif
constant bool ALONE = SPIRV_CROSS_CONSTANT_ID_7;
#ifndef SPIRV_CROSS_CONSTANT_ID_2
#define SPIRV_CROSS_CONSTANT_ID_2 64u
#endif
constant uint DK = SPIRV_CROSS_CONSTANT_ID_2;
#ifndef SPIRV_CROSS_CONSTANT_ID_3
#define SPIRV_CROSS_CONSTANT_ID_3 64u
#endif
constant uint DV = SPIRV_CROSS_CONSTANT_ID_3;
#ifndef SPIRV_CROSS_CONSTANT_ID_8
#define SPIRV_CROSS_CONSTANT_ID_8 false
#endif
constant bool SINKS = SPIRV_CROSS_CONSTANT_ID_8;
constant int _526 = int(SINKS);
constant bool _558 = (!ALONE);
#ifndef SPIRV_CROSS_CONSTANT_ID_0
#define SPIRV_CROSS_CONSTANT_ID_0 0u
#endif
constant uint KEYS = SPIRV_CROSS_CONSTANT_ID_0;
#ifndef SPIRV_CROSS_CONSTANT_ID_9
#define SPIRV_CROSS_CONSTANT_ID_9 false
#endif
constant bool SLOPES = SPIRV_CROSS_CONSTANT_ID_9;
#ifndef SPIRV_CROSS_CONSTANT_ID_10
#define SPIRV_CROSS_CONSTANT_ID_10 0u
#endif
constant uint REACH = SPIRV_CROSS_CONSTANT_ID_10;
constant bool _704 = (REACH > 0u);
constant int _708 = int(REACH + 0u);
constant int _709 = (_708 / 2);
#ifndef SPIRV_CROSS_CONSTANT_ID_1
#define SPIRV_CROSS_CONSTANT_ID_1 0u
#endif
constant uint VALUES = SPIRV_CROSS_CONSTANT_ID_1;
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
float tanh_(thread const float& x)
{
    if (abs(x) < 0.0500000007450580596923828125)
    {
        return x * (1.0 - ((x * x) * (0.3333333432674407958984375 - ((x * x) * 0.13333334028720855712890625))));
    }
    return 1.0 - (2.0 / (exp(2.0 * fast::min(x, 40.0)) + 1.0));
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

kernel void main0(constant Arguments& _327 [[buffer(0)]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]], uint3 gl_NumWorkGroups [[threadgroups_per_grid]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    threadgroup float lanes[64];
    threadgroup float query[DK];
    threadgroup float sum[DV];
    threadgroup float weights[64];
    uint lane = gl_LocalInvocationID.x;
    uint row = gl_WorkGroupID.y;
    uint head = group_of_row(gl_WorkGroupID, gl_NumWorkGroups);
    if (row >= _327.run->n_tokens)
    {
        return;
    }
    uint group = head / _327.heads_per_key;
    device Run* param = _327.run;
    uint param_1 = row;
    uint segment = segment_of(param, param_1);
    device Run* param_2 = _327.run;
    uint param_3 = segment;
    uint param_4 = 0u;
    int first_row = word_of(param_2, param_3, param_4);
    device Run* param_5 = _327.run;
    uint param_6 = segment;
    uint param_7 = 2u;
    int start = word_of(param_5, param_6, param_7);
    int _370;
    if (CROSS)
    {
        device Run* param_8 = _327.run;
        uint param_9 = segment;
        uint param_10 = 3u;
        _370 = word_of(param_8, param_9, param_10);
    }
    else
    {
        int _382 = start;
        device Run* param_11 = _327.run;
        uint param_12 = segment;
        uint param_13 = 1u;
        _370 = _382 + word_of(param_11, param_12, param_13);
    }
    int end = _370;
    int position = (start + int(row)) - first_row;
    int near = int(_327.window);
    int lo = 0;
    int hi = end;
    if (_407)
    {
        if (CAUSAL)
        {
            hi = position + 1;
        }
        else
        {
            if (near > 0)
            {
                hi = min(end, ((position + (near / 2)) + 1));
            }
        }
        if ((near > 0) && CHUNKED)
        {
            lo = position - (position % near);
        }
        else
        {
            if (near > 0)
            {
                int _444;
                if (CAUSAL)
                {
                    _444 = near - 1;
                }
                else
                {
                    _444 = near / 2;
                }
                lo = max(0, (position - _444));
            }
        }
        if (ALONE)
        {
            lo = max(lo, start);
        }
    }
    for (uint i = lane; i < DK; i += 64u)
    {
        query[i] = _327.q->v[((row * _327.ldq) + (head * DK)) + i];
    }
    for (uint i_1 = lane; i_1 < DV; i_1 += 64u)
    {
        sum[i_1] = 0.0;
    }
    float _513;
    if (SINKS)
    {
        _513 = _327.sinks->v[head];
    }
    else
    {
        _513 = -1000000015047466219876688855040.0;
    }
    float top = _513;
    float total = float(_526);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    int _531 = lo / 64;
    float _745;
    float _798;
    for (int block = _531; (block * 64) < hi; block++)
    {
        int key = (block * 64) + int(lane);
        bool seen = (key >= lo) && (key < hi);
        ulong page = 0ul;
        if (_558)
        {
            int _569 = block;
            device Run* param_14 = _327.run;
            uint param_15 = segment;
            uint param_16 = _327.caches & 65535u;
            uint param_17 = _327.caches >> uint(16);
            uint param_18 = uint(_569);
            ulong param_19 = _327.pages;
            uint param_20 = _327.page_bytes;
            page = page_of(param_14, param_15, param_16, param_17, param_18, param_19, param_20) + ulong(group * _327.head_bytes);
        }
        float score = 0.0;
        if (seen)
        {
            if (ALONE)
            {
                uint from = (uint((first_row + key) - start) * _327.ldk) + (group * DK);
                for (uint i_2 = 0u; i_2 < DK; i_2++)
                {
                    score += (query[i_2] * (reinterpret_cast<device F32*>(_327.pages))->v[from + i_2]);
                }
            }
            else
            {
                for (uint i_3 = 0u; i_3 < DK; i_3++)
                {
                    uint param_21 = KEYS;
                    ulong param_22 = page;
                    uint param_23 = (i_3 * 64u) + lane;
                    score += (query[i_3] * load_number(param_21, param_22, param_23));
                }
            }
            score *= _327.scale;
            if (_327.cap > 0.0)
            {
                float param_24 = score / _327.cap;
                score = _327.cap * tanh_(param_24);
            }
            if (SLOPES)
            {
                score -= (_327.terms->v[head] * float(abs(position - key)));
            }
            if (_704)
            {
                int reach = _709;
                score += _327.terms->v[(head * REACH) + uint(clamp(key - position, -reach, reach) + reach)];
            }
        }
        float before = top;
        float param_25 = seen ? score : (-1000000015047466219876688855040.0);
        float _736 = max64(param_25, gl_LocalInvocationID, lanes);
        top = fast::max(top, _736);
        float kept = exp(before - top);
        if (seen)
        {
            _745 = exp(score - top);
        }
        else
        {
            _745 = 0.0;
        }
        float weight = _745;
        weights[lane] = weight;
        float param_26 = weight;
        float _763 = sum64(param_26, gl_LocalInvocationID, lanes);
        total = (total * kept) + _763;
        int from_1 = max((lo - (block * 64)), 0);
        int until = min((hi - (block * 64)), 64);
        for (uint i_4 = lane; i_4 < DV; i_4 += 64u)
        {
            float part = 0.0;
            for (int j = from_1; j < until; j++)
            {
                if (ALONE)
                {
                    _798 = (reinterpret_cast<device F32*>(_327.values))->v[((uint(((first_row + (block * 64)) + j) - start) * _327.ldv) + (group * DV)) + i_4];
                }
                else
                {
                    uint param_27 = VALUES;
                    ulong param_28 = page + ulong(_327.key_bytes);
                    uint param_29 = (uint(j) * DV) + i_4;
                    _798 = load_number(param_27, param_28, param_29);
                }
                float value = _798;
                part += (weights[j] * value);
            }
            sum[i_4] = (sum[i_4] * kept) + part;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    float _887;
    for (uint i_5 = lane; i_5 < DV; i_5 += 64u)
    {
        if (total > 0.0)
        {
            _887 = sum[i_5] / total;
        }
        else
        {
            _887 = 0.0;
        }
        _327.y->v[((row * _327.ldy) + (head * DV)) + i_5] = _887;
    }
}

