// Made by backends/_metal_shaders.py of vulkan/copy_heads.comp: change that file.
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
    uint ldx;
    uint ldy;
    uint x_step;
    uint y_step;
    uint n_heads;
    uint n;
};

struct U32
{
    uint v[1];
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

kernel void main0(constant Arguments& _58 [[buffer(0)]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]], uint3 gl_NumWorkGroups [[threadgroups_per_grid]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    uint i = column(gl_WorkGroupID, gl_NumWorkGroups, gl_LocalInvocationID);
    uint row = gl_WorkGroupID.y;
    bool _67 = row >= _58.rows->v[0];
    bool _81;
    if (!_67)
    {
        _81 = i >= (_58.n_heads * _58.n);
    }
    else
    {
        _81 = _67;
    }
    if (_81)
    {
        return;
    }
    uint head = i / _58.n;
    uint c = i % _58.n;
    _58.y->v[((row * _58.ldy) + (head * _58.y_step)) + c] = _58.x->v[((row * _58.ldx) + (head * _58.x_step)) + c];
}

