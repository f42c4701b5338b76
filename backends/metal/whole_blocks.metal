// Made by backends/_metal_shaders.py of vulkan/whole_blocks.comp: change that file.
#pragma clang diagnostic ignored "-Wmissing-prototypes"

#include <metal_stdlib>
#include <simd/simd.h>

using namespace metal;

struct U32;
struct I32;
struct F32;

struct Arguments
{
    device U32* rows;
    device I32* positions;
    device F32* x;
    device F32* y;
    uint ldx;
    uint ldy;
    uint most;
    uint block;
};

struct U32
{
    uint v[1];
};

struct I32
{
    int v[1];
};

struct F32
{
    float v[1];
};

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
uint count(thread const uint& from, constant Arguments& v_60)
{
    uint low = 0u;
    uint high = v_60.most;
    while (low < high)
    {
        uint middle = (low + high) / 2u;
        if (v_60.x->v[from + middle] >= 0.0)
        {
            low = middle + 1u;
        }
        else
        {
            high = middle;
        }
    }
    return low;
}

kernel void main0(constant Arguments& v_60 [[buffer(0)]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]], uint3 gl_NumWorkGroups [[threadgroups_per_grid]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    uint i = column(gl_WorkGroupID, gl_NumWorkGroups, gl_LocalInvocationID);
    uint row = gl_WorkGroupID.y;
    bool _114 = row >= v_60.rows->v[0];
    bool _130;
    if (!_114)
    {
        _130 = i >= (((v_60.most * v_60.block) + v_60.block) - 1u);
    }
    else
    {
        _130 = _114;
    }
    if (_130)
    {
        return;
    }
    uint position = uint(v_60.positions->v[row]);
    uint param = row * v_60.ldx;
    uint n = count(param, v_60);
    uint number = i / v_60.block;
    float value = -1.0;
    if (number < n)
    {
        value = v_60.x->v[(row * v_60.ldx) + number] - float((v_60.block - 1u) - (i % v_60.block));
    }
    else
    {
        uint s = ((((position + 1u) / v_60.block) * v_60.block) + i) - (n * v_60.block);
        if (s <= position)
        {
            value = float(s);
        }
    }
    v_60.y->v[(row * v_60.ldy) + i] = value;
}

