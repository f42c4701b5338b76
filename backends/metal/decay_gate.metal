// Made by backends/_metal_shaders.py of vulkan/decay_gate.comp: change that file.
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
    device F32* shift;
    device F32* rates;
    device F32* y;
    uint ldx;
    uint ldy;
    uint width;
    uint part;
    float bound;
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
#define SPIRV_CROSS_CONSTANT_ID_0 0u
#endif
constant uint FORM = SPIRV_CROSS_CONSTANT_ID_0;
constant bool _188 = (FORM == 0u);
constant bool _209 = (FORM == 2u);
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
float softplus(thread const float& x)
{
    float e = exp(-abs(x));
    float s = e / (2.0 + e);
    float z = s * s;
    float p = 0.111111111938953399658203125 + (z * (0.0909090936183929443359375 + (z * (0.076923079788684844970703125 + (z / 15.0)))));
    return fast::max(x, 0.0) + (2.0 * (s + ((s * z) * (0.3333333432674407958984375 + (z * (0.20000000298023223876953125 + (z * (0.14285714924335479736328125 + (z * p)))))))));
}

static inline __attribute__((always_inline))
float sigmoid(thread const float& x)
{
    return 1.0 / (1.0 + exp(-x));
}

kernel void main0(constant Arguments& _130 [[buffer(0)]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]], uint3 gl_NumWorkGroups [[threadgroups_per_grid]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    uint row = gl_WorkGroupID.y;
    uint i = column(gl_WorkGroupID, gl_NumWorkGroups, gl_LocalInvocationID);
    bool _139 = row >= _130.rows->v[0];
    bool _149;
    if (!_139)
    {
        _149 = i >= _130.width;
    }
    else
    {
        _149 = _139;
    }
    if (_149)
    {
        return;
    }
    float moved = _130.x->v[(row * _130.ldx) + i] + _130.shift->v[i];
    float rate = _130.rates->v[i / _130.part];
    float _189;
    if (_188)
    {
        float param = moved;
        _189 = softplus(param);
    }
    else
    {
        _189 = exp(moved);
    }
    float grown = _189;
    float _210;
    if (_209)
    {
        float param_1 = rate * moved;
        _210 = _130.bound * sigmoid(param_1);
    }
    else
    {
        _210 = rate * grown;
    }
    _130.y->v[(row * _130.ldy) + i] = exp(_210);
}

