// Made by backends/_metal_shaders.py of vulkan/list_positions.comp: change that file.
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
    device F32* y;
    uint ldy;
    uint most;
    uint window;
    uint stride;
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

kernel void main0(constant Arguments& _62 [[buffer(0)]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]], uint3 gl_NumWorkGroups [[threadgroups_per_grid]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    uint i = column(gl_WorkGroupID, gl_NumWorkGroups, gl_LocalInvocationID);
    uint row = gl_WorkGroupID.y;
    bool _70 = row >= _62.rows->v[0];
    bool _80;
    if (!_70)
    {
        _80 = i >= _62.most;
    }
    else
    {
        _80 = _70;
    }
    if (_80)
    {
        return;
    }
    uint position = uint(_62.positions->v[row]);
    uint first = 0u;
    bool _98 = _62.window > 0u;
    bool _105;
    if (_98)
    {
        _105 = position >= _62.window;
    }
    else
    {
        _105 = _98;
    }
    if (_105)
    {
        first = (position - _62.window) + 1u;
    }
    uint s = ((((first / _62.stride) + 1u) * _62.stride) - 1u) + (i * _62.stride);
    float _144;
    if (s <= position)
    {
        _144 = float(s);
    }
    else
    {
        _144 = -1.0;
    }
    _62.y->v[(row * _62.ldy) + i] = _144;
}

