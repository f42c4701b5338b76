// Made by backends/_metal_shaders.py of vulkan/keep.comp: change that file.
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
    device F32* k;
    device F32* v;
    ulong pages;
    uint ldk;
    uint ldv;
    uint heads;
    uint dk;
    uint dv;
    uint head_bytes;
    uint key_bytes;
    uint page_bytes;
    uint cache;
    uint n_caches;
};

#ifndef SPIRV_CROSS_CONSTANT_ID_0
#define SPIRV_CROSS_CONSTANT_ID_0 0u
#endif
constant uint KEYS = SPIRV_CROSS_CONSTANT_ID_0;
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
    int _232 = word_of(param, param_1, param_2);
    uint _233 = row;
    device Run* param_3 = run;
    uint param_4 = segment;
    uint param_5 = 0u;
    return (_232 + int(_233)) - word_of(param_3, param_4, param_5);
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
void store_number(thread const uint& type, thread const ulong& base, thread const uint& i, thread const float& x)
{
    if (type == 0u)
    {
        (reinterpret_cast<device F32*>(base))->v[i] = x;
    }
    else
    {
        if (type == 1u)
        {
            (reinterpret_cast<device F16*>(base))->v[i] = half(x);
        }
        else
        {
            uint bits = as_type<uint>(x);
            bool is_nan = (bits & 2147483647u) > 2139095040u;
            uint _127;
            if (is_nan)
            {
                _127 = bits | 4194304u;
            }
            else
            {
                _127 = (bits + 32767u) + ((bits >> uint(16)) & 1u);
            }
            bits = _127;
            (reinterpret_cast<device U16*>(base))->v[i] = ushort(bits >> uint(16));
        }
    }
}

kernel void main0(constant Arguments& _253 [[buffer(0)]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]], uint3 gl_NumWorkGroups [[threadgroups_per_grid]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    uint i = column(gl_WorkGroupID, gl_NumWorkGroups, gl_LocalInvocationID);
    uint row = gl_WorkGroupID.y;
    bool _259 = row >= _253.run->n_tokens;
    bool _277;
    if (!_259)
    {
        _277 = i >= (_253.heads * (_253.dk + _253.dv));
    }
    else
    {
        _277 = _259;
    }
    if (_277)
    {
        return;
    }
    device Run* param = _253.run;
    uint param_1 = row;
    uint segment = segment_of(param, param_1);
    device Run* param_2 = _253.run;
    uint param_3 = segment;
    uint param_4 = row;
    uint position = uint(position_of(param_2, param_3, param_4));
    uint _301 = position;
    device Run* param_5 = _253.run;
    uint param_6 = segment;
    uint param_7 = _253.n_caches;
    uint param_8 = _253.cache;
    uint param_9 = _301 / 64u;
    ulong param_10 = _253.pages;
    uint param_11 = _253.page_bytes;
    ulong page = page_of(param_5, param_6, param_7, param_8, param_9, param_10, param_11);
    uint cell = position % 64u;
    if (i < (_253.heads * _253.dk))
    {
        ulong base = page + ulong((i / _253.dk) * _253.head_bytes);
        uint param_12 = KEYS;
        ulong param_13 = base;
        uint param_14 = ((i % _253.dk) * 64u) + cell;
        float param_15 = _253.k->v[(row * _253.ldk) + i];
        store_number(param_12, param_13, param_14, param_15);
    }
    else
    {
        i -= (_253.heads * _253.dk);
        ulong base_1 = (page + ulong((i / _253.dv) * _253.head_bytes)) + ulong(_253.key_bytes);
        uint param_16 = VALUES;
        ulong param_17 = base_1;
        uint param_18 = (cell * _253.dv) + (i % _253.dv);
        float param_19 = _253.v->v[(row * _253.ldv) + i];
        store_number(param_16, param_17, param_18, param_19);
    }
}

