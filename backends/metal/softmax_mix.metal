// Made by backends/_metal_shaders.py of vulkan/softmax_mix.comp: change that file.
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
    device F32* score;
    device F32* before;
    device F32* after;
    device F32* y;
    uint ldx;
    uint lds;
    uint ldm;
    uint ldy;
    uint width;
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
constant bool FIRST = SPIRV_CROSS_CONSTANT_ID_0;
constant bool _111 = (!FIRST);
#ifndef SPIRV_CROSS_CONSTANT_ID_1
#define SPIRV_CROSS_CONSTANT_ID_1 false
#endif
constant bool LAST = SPIRV_CROSS_CONSTANT_ID_1;
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
        _77 = i >= _58.width;
    }
    else
    {
        _77 = _67;
    }
    if (_77)
    {
        return;
    }
    float top = _58.score->v[row * _58.lds];
    float total = 1.0;
    float value = _58.x->v[(row * _58.ldx) + i];
    if (_111)
    {
        float own = top;
        float old = _58.before->v[row * _58.ldm];
        top = fast::max(own, old);
        float kept = exp(old - top);
        float added = exp(own - top);
        total = (_58.before->v[(row * _58.ldm) + 1u] * kept) + added;
        value = (_58.y->v[(row * _58.ldy) + i] * kept) + (value * added);
    }
    float _180;
    if (LAST)
    {
        _180 = value / total;
    }
    else
    {
        _180 = value;
    }
    _58.y->v[(row * _58.ldy) + i] = _180;
    if (i == 0u)
    {
        _58.after->v[row * _58.ldm] = top;
        _58.after->v[(row * _58.ldm) + 1u] = total;
    }
}

