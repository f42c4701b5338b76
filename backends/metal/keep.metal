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

struct Segments
{
    int v[1];
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
            uint _111;
            if (is_nan)
            {
                _111 = bits | 4194304u;
            }
            else
            {
                _111 = (bits + 32767u) + ((bits >> uint(16)) & 1u);
            }
            bits = _111;
            (reinterpret_cast<device U16*>(base))->v[i] = ushort(bits >> uint(16));
        }
    }
}

kernel void main0(constant Arguments& _191 [[buffer(0)]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]], uint3 gl_NumWorkGroups [[threadgroups_per_grid]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    uint i = column(gl_WorkGroupID, gl_NumWorkGroups, gl_LocalInvocationID);
    uint row = gl_WorkGroupID.y;
    bool _197 = row >= _191.run->n_tokens;
    bool _215;
    if (!_197)
    {
        _215 = i >= (_191.heads * (_191.dk + _191.dv));
    }
    else
    {
        _215 = _197;
    }
    if (_215)
    {
        return;
    }
    uint segment = (reinterpret_cast<device U32*>(_191.run->row_segments))->v[row];
    device Segments* s = reinterpret_cast<device Segments*>(_191.run->segments);
    uint position = (uint(s->v[(segment * 8u) + 2u]) + row) - uint(s->v[segment * 8u]);
    uint _262 = position;
    device Run* param = _191.run;
    uint param_1 = segment;
    uint param_2 = _191.n_caches;
    uint param_3 = _191.cache;
    uint param_4 = _262 / 64u;
    ulong param_5 = _191.pages;
    uint param_6 = _191.page_bytes;
    ulong page = page_of(param, param_1, param_2, param_3, param_4, param_5, param_6);
    uint cell = position % 64u;
    if (i < (_191.heads * _191.dk))
    {
        ulong base = page + ulong((i / _191.dk) * _191.head_bytes);
        uint param_7 = KEYS;
        ulong param_8 = base;
        uint param_9 = ((i % _191.dk) * 64u) + cell;
        float param_10 = _191.k->v[(row * _191.ldk) + i];
        store_number(param_7, param_8, param_9, param_10);
    }
    else
    {
        i -= (_191.heads * _191.dk);
        ulong base_1 = (page + ulong((i / _191.dv) * _191.head_bytes)) + ulong(_191.key_bytes);
        uint param_11 = VALUES;
        ulong param_12 = base_1;
        uint param_13 = (cell * _191.dv) + (i % _191.dv);
        float param_14 = _191.v->v[(row * _191.ldv) + i];
        store_number(param_11, param_12, param_13, param_14);
    }
}

