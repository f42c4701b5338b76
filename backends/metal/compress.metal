// Made by backends/_metal_shaders.py of vulkan/compress.comp: change that file.
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
    ulong pages;
    device F32* ape;
    device F32* y;
    uint ldy;
    uint width;
    uint n;
    uint key_bytes;
    uint page_bytes;
    uint cache;
    uint n_caches;
};

#ifndef SPIRV_CROSS_CONSTANT_ID_2
#define SPIRV_CROSS_CONSTANT_ID_2 4u
#endif
constant uint RATIO = SPIRV_CROSS_CONSTANT_ID_2;
#ifndef SPIRV_CROSS_CONSTANT_ID_3
#define SPIRV_CROSS_CONSTANT_ID_3 false
#endif
constant bool OVERLAPS = SPIRV_CROSS_CONSTANT_ID_3;
#ifndef SPIRV_CROSS_CONSTANT_ID_1
#define SPIRV_CROSS_CONSTANT_ID_1 0u
#endif
constant uint VALUES = SPIRV_CROSS_CONSTANT_ID_1;
#ifndef SPIRV_CROSS_CONSTANT_ID_0
#define SPIRV_CROSS_CONSTANT_ID_0 0u
#endif
constant uint KEYS = SPIRV_CROSS_CONSTANT_ID_0;
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
int position_of(device Run* const thread & run, thread const uint& segment, thread const uint& row)
{
    device Run* param = run;
    uint param_1 = segment;
    uint param_2 = 2u;
    int _207 = word_of(param, param_1, param_2);
    uint _208 = row;
    device Run* param_3 = run;
    uint param_4 = segment;
    uint param_5 = 0u;
    return (_207 + int(_208)) - word_of(param_3, param_4, param_5);
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

kernel void main0(constant Arguments& _228 [[buffer(0)]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]], uint3 gl_NumWorkGroups [[threadgroups_per_grid]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    uint i = column(gl_WorkGroupID, gl_NumWorkGroups, gl_LocalInvocationID);
    uint row = gl_WorkGroupID.y;
    bool _234 = row >= _228.run->n_tokens;
    bool _244;
    if (!_234)
    {
        _244 = i >= _228.n;
    }
    else
    {
        _244 = _234;
    }
    if (_244)
    {
        return;
    }
    device Run* param = _228.run;
    uint param_1 = row;
    uint segment = segment_of(param, param_1);
    device Run* param_2 = _228.run;
    uint param_3 = segment;
    uint param_4 = row;
    uint end = uint(position_of(param_2, param_3, param_4)) + 1u;
    float top = -1000000015047466219876688855040.0;
    float total = 0.0;
    float value = 0.0;
    if ((end % RATIO) != 0u)
    {
        _228.y->v[(row * _228.ldy) + i] = 0.0;
        return;
    }
    uint last = end - RATIO;
    uint _294;
    if (OVERLAPS)
    {
        _294 = last - min(last, RATIO);
    }
    else
    {
        _294 = last;
    }
    uint first = _294;
    uint _349;
    for (uint s = first; s < end; s++)
    {
        uint _317 = s;
        device Run* param_5 = _228.run;
        uint param_6 = segment;
        uint param_7 = _228.n_caches;
        uint param_8 = _228.cache;
        uint param_9 = _317 / 64u;
        ulong param_10 = _228.pages;
        uint param_11 = _228.page_bytes;
        ulong page = page_of(param_5, param_6, param_7, param_8, param_9, param_10, param_11);
        uint cell = s % 64u;
        if (OVERLAPS && (s >= last))
        {
            _349 = _228.n + i;
        }
        else
        {
            _349 = i;
        }
        uint at = _349;
        uint param_12 = VALUES;
        ulong param_13 = page + ulong(_228.key_bytes);
        uint param_14 = (cell * _228.width) + at;
        float score = load_number(param_12, param_13, param_14);
        score += _228.ape->v[((s % RATIO) * _228.width) + at];
        float before = top;
        top = fast::max(top, score);
        float kept = exp(before - top);
        float weight = exp(score - top);
        total = (total * kept) + weight;
        uint param_15 = KEYS;
        ulong param_16 = page;
        uint param_17 = (at * 64u) + cell;
        value = (value * kept) + (weight * load_number(param_15, param_16, param_17));
    }
    _228.y->v[(row * _228.ldy) + i] = value / total;
}

