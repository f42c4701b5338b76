// Made by backends/_metal_shaders.py of vulkan/norm.comp: change that file.
#pragma clang diagnostic ignored "-Wmissing-prototypes"

#include <metal_stdlib>
#include <simd/simd.h>

using namespace metal;

struct U32;
struct F32;

struct Arguments
{
    device U32* rows;
    device F32* x;
    device F32* y;
    device F32* w;
    device F32* b;
    uint ldx;
    uint ldy;
    uint group;
    float eps;
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
constant bool LAYER = SPIRV_CROSS_CONSTANT_ID_0;
#ifndef SPIRV_CROSS_CONSTANT_ID_1
#define SPIRV_CROSS_CONSTANT_ID_1 true
#endif
constant bool SCALED = SPIRV_CROSS_CONSTANT_ID_1;
#ifndef SPIRV_CROSS_CONSTANT_ID_2
#define SPIRV_CROSS_CONSTANT_ID_2 false
#endif
constant bool SHIFTED = SPIRV_CROSS_CONSTANT_ID_2;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(64u, 1u, 1u);

static inline __attribute__((always_inline))
uint group_of_row(thread uint3& gl_WorkGroupID, thread uint3& gl_NumWorkGroups)
{
    return gl_WorkGroupID.x + (gl_WorkGroupID.z * gl_NumWorkGroups.x);
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

kernel void main0(constant Arguments& _100 [[buffer(0)]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]], uint3 gl_NumWorkGroups [[threadgroups_per_grid]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    threadgroup float lanes[64];
    uint row = gl_WorkGroupID.y;
    uint first = group_of_row(gl_WorkGroupID, gl_NumWorkGroups) * _100.group;
    uint lane = gl_LocalInvocationID.x;
    if (row >= _100.rows->v[0])
    {
        return;
    }
    uint from = (row * _100.ldx) + first;
    uint to = (row * _100.ldy) + first;
    float mean = 0.0;
    float sum = 0.0;
    if (LAYER)
    {
        for (uint i = lane; i < _100.group; i += 64u)
        {
            sum += _100.x->v[from + i];
        }
        float param = sum;
        float _168 = sum64(param, gl_LocalInvocationID, lanes);
        mean = _168 / float(_100.group);
        sum = 0.0;
    }
    for (uint i_1 = lane; i_1 < _100.group; i_1 += 64u)
    {
        float v = _100.x->v[from + i_1] - mean;
        sum += (v * v);
    }
    float param_1 = sum;
    float _205 = sum64(param_1, gl_LocalInvocationID, lanes);
    float factor = 1.0 / sqrt((_205 / float(_100.group)) + _100.eps);
    for (uint i_2 = lane; i_2 < _100.group; i_2 += 64u)
    {
        float v_1 = (_100.x->v[from + i_2] - mean) * factor;
        if (SCALED)
        {
            v_1 *= _100.w->v[i_2];
        }
        if (SHIFTED)
        {
            v_1 += _100.b->v[i_2];
        }
        _100.y->v[to + i_2] = v_1;
    }
}

