// Made by backends/_metal_shaders.py of vulkan/lerp.comp: change that file.
#pragma clang diagnostic ignored "-Wmissing-prototypes"

#include <metal_stdlib>
#include <simd/simd.h>

using namespace metal;

struct U32;
struct F32;

struct Arguments
{
    device U32* rows;
    device F32* a;
    device F32* b;
    device F32* shifts;
    device F32* factors;
    device F32* y;
    uint lda;
    uint ldb;
    uint lds;
    uint ldy;
    uint width;
    uint columns;
};

struct U32
{
    uint v[1];
};

struct F32
{
    float v[1];
};

#ifndef SPIRV_CROSS_CONSTANT_ID_0
#define SPIRV_CROSS_CONSTANT_ID_0 false
#endif
constant bool FACTORS = SPIRV_CROSS_CONSTANT_ID_0;
#ifndef SPIRV_CROSS_CONSTANT_ID_1
#define SPIRV_CROSS_CONSTANT_ID_1 false
#endif
constant bool SHIFTS = SPIRV_CROSS_CONSTANT_ID_1;
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

kernel void main0(constant Arguments& _58 [[buffer(0)]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]], uint3 gl_NumWorkGroups [[threadgroups_per_grid]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    uint i = column(gl_WorkGroupID, gl_NumWorkGroups, gl_LocalInvocationID);
    uint row = gl_WorkGroupID.y;
    bool _67 = row >= _58.rows->v[0];
    bool _77;
    if (!_67)
    {
        _77 = i >= _58.columns;
    }
    else
    {
        _77 = _67;
    }
    if (_77)
    {
        return;
    }
    float at = 0.0;
    float first = _58.a->v[(row * _58.lda) + (i % _58.width)];
    float last = _58.b->v[(row * _58.ldb) + (i % _58.width)];
    if (FACTORS)
    {
        at = _58.factors->v[i];
    }
    if (SHIFTS)
    {
        at += _58.shifts->v[(row * _58.lds) + i];
    }
    _58.y->v[(row * _58.ldy) + i] = first + ((last - first) * at);
}

