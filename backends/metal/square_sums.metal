// Made by backends/_metal_shaders.py of vulkan/square_sums.comp: change that file.
#pragma clang diagnostic ignored "-Wmissing-prototypes"

#include <metal_stdlib>
#include <simd/simd.h>

using namespace metal;

struct U32;
struct F32;

struct Arguments
{
    device U32* slots;
    device U32* ids;
    device F32* x;
    device F32* weights;
    device F32* sums;
    device U32* counts;
    uint ldx;
    uint width;
    uint fan;
    uint spans;
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
constant bool WEIGHED = SPIRV_CROSS_CONSTANT_ID_0;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(64u, 1u, 1u);

static inline __attribute__((always_inline))
uint group_of_row(thread uint3& gl_WorkGroupID, thread uint3& gl_NumWorkGroups)
{
    return gl_WorkGroupID.x + (gl_WorkGroupID.z * gl_NumWorkGroups.x);
}

kernel void main0(constant Arguments& _41 [[buffer(0)]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]], uint3 gl_NumWorkGroups [[threadgroups_per_grid]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    uint expert = group_of_row(gl_WorkGroupID, gl_NumWorkGroups) / _41.spans;
    uint n = 0u;
    uint i = ((group_of_row(gl_WorkGroupID, gl_NumWorkGroups) % _41.spans) * 64u) + gl_LocalInvocationID.x;
    float sum = 0.0;
    float _96;
    for (uint s = 0u; s < _41.slots->v[0]; s++)
    {
        if (_41.ids->v[s] != expert)
        {
            continue;
        }
        if (i < _41.width)
        {
            _96 = _41.x->v[((s / _41.fan) * _41.ldx) + i];
        }
        else
        {
            _96 = 0.0;
        }
        float y = _96;
        if (WEIGHED)
        {
            y *= _41.weights->v[s];
        }
        sum += (y * y);
        n++;
    }
    if (i < _41.width)
    {
        _41.sums->v[(expert * _41.width) + i] = sum;
    }
    if (i == 0u)
    {
        _41.counts->v[expert] = n;
    }
}

