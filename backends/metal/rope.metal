// Made by backends/_metal_shaders.py of vulkan/rope.comp: change that file.
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
    device F32* angles;
    uint ldx;
    uint ldy;
    uint width;
    uint head_dim;
    uint n_rot;
    float magnitude;
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
constant bool NEOX = SPIRV_CROSS_CONSTANT_ID_0;
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

kernel void main0(constant Arguments& _57 [[buffer(0)]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]], uint3 gl_NumWorkGroups [[threadgroups_per_grid]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    uint i = column(gl_WorkGroupID, gl_NumWorkGroups, gl_LocalInvocationID);
    uint row = gl_WorkGroupID.y;
    uint half_rot = _57.n_rot / 2u;
    bool _73 = row >= _57.rows->v[0];
    bool _82;
    if (!_73)
    {
        _82 = i >= _57.width;
    }
    else
    {
        _82 = _73;
    }
    if (_82)
    {
        return;
    }
    uint head = (i / _57.head_dim) * _57.head_dim;
    uint at = i - head;
    float own = _57.x->v[(row * _57.ldx) + i];
    if (at < _57.n_rot)
    {
        bool _124;
        if (NEOX)
        {
            _124 = at < half_rot;
        }
        else
        {
            _124 = (at & 1u) == 0u;
        }
        bool first = _124;
        uint _136;
        if (NEOX)
        {
            _136 = at % half_rot;
        }
        else
        {
            _136 = at / 2u;
        }
        uint pair = _136;
        uint _step = NEOX ? half_rot : 1u;
        uint angle = ((row * half_rot) + pair) * 2u;
        float cosine = _57.angles->v[angle] * _57.magnitude;
        float sine = _57.angles->v[angle + 1u] * _57.magnitude;
        uint _186;
        if (first)
        {
            _186 = i + _step;
        }
        else
        {
            _186 = i - _step;
        }
        float other = _57.x->v[(row * _57.ldx) + _186];
        float _201;
        if (first)
        {
            _201 = (own * cosine) - (other * sine);
        }
        else
        {
            _201 = (other * sine) + (own * cosine);
        }
        own = _201;
    }
    _57.y->v[(row * _57.ldy) + i] = own;
}

