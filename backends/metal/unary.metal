// Made by backends/_metal_shaders.py of vulkan/unary.comp: change that file.
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
    uint width;
    float a;
    float b;
    float c;
    float d;
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
constant uint OP = SPIRV_CROSS_CONSTANT_ID_0;
#ifndef SPIRV_CROSS_CONSTANT_ID_1
#define SPIRV_CROSS_CONSTANT_ID_1 0u
#endif
constant uint ACT = SPIRV_CROSS_CONSTANT_ID_1;
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
float tanh_(thread const float& x)
{
    if (abs(x) < 0.0500000007450580596923828125)
    {
        return x * (1.0 - ((x * x) * (0.3333333432674407958984375 - ((x * x) * 0.13333334028720855712890625))));
    }
    return 1.0 - (2.0 / (exp(2.0 * fast::min(x, 40.0)) + 1.0));
}

static inline __attribute__((always_inline))
float sigmoid(thread const float& x)
{
    return 1.0 / (1.0 + exp(-x));
}

static inline __attribute__((always_inline))
float erf_(thread const float& x)
{
    float t = 1.0 / (1.0 + (0.3275910913944244384765625 * abs(x)));
    float p = ((((((((1.0614054203033447265625 * t) - 1.45315206050872802734375) * t) + 1.42141377925872802734375) * t) - 0.284496724605560302734375) * t) + 0.254829585552215576171875) * t;
    return sign(x) * (1.0 - (p * exp((-x) * x)));
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
float activate(thread const uint& act, thread const float& x)
{
    switch (act)
    {
        case 0u:
        {
            float param = x;
            return x * sigmoid(param);
        }
        case 1u:
        {
            float param_1 = 0.79788458347320556640625 * (x + (((0.0447149984538555145263671875 * x) * x) * x));
            return (0.5 * x) * (1.0 + tanh_(param_1));
        }
        case 2u:
        {
            float param_2 = x * 0.707106769084930419921875;
            return (0.5 * x) * (1.0 + erf_(param_2));
        }
        case 3u:
        {
            float param_3 = 1.70200002193450927734375 * x;
            return x * sigmoid(param_3);
        }
        case 4u:
        {
            return fast::max(x, 0.0);
        }
        case 5u:
        {
            return fast::max(x, 0.0) * fast::max(x, 0.0);
        }
        case 6u:
        {
            float param_4 = x;
            return sigmoid(param_4);
        }
        case 7u:
        {
            float param_5 = x;
            return tanh_(param_5);
        }
        case 8u:
        {
            float param_6 = x;
            return softplus(param_6);
        }
    }
    return x;
}

static inline __attribute__((always_inline))
float xielu(thread const float& v, constant Arguments& v_293)
{
    if (v > 0.0)
    {
        return ((v_293.a * v) * v) + (v_293.c * v);
    }
    float low = fast::min(v, v_293.d);
    float _320;
    if (abs(low) < 0.0500000007450580596923828125)
    {
        _320 = low * (1.0 + (low * (0.5 + (low * (0.16666667163372039794921875 + (low / 24.0))))));
    }
    else
    {
        _320 = exp(low) - 1.0;
    }
    float grown = _320;
    return (v_293.b * (grown - v)) + (v_293.c * v);
}

static inline __attribute__((always_inline))
float f(thread const float& v, constant Arguments& v_293)
{
    switch (OP)
    {
        case 0u:
        {
            return v;
        }
        case 1u:
        {
            return v * v_293.a;
        }
        case 2u:
        {
            float param = v / v_293.a;
            return v_293.a * tanh_(param);
        }
        case 3u:
        {
            return fast::clamp(v, -v_293.a, v_293.a);
        }
        case 4u:
        {
            uint param_1 = ACT;
            float param_2 = v;
            return activate(param_1, param_2);
        }
        case 5u:
        {
            float param_3 = v;
            return xielu(param_3, v_293);
        }
        case 6u:
        {
            return v_293.a;
        }
    }
    return v;
}

kernel void main0(constant Arguments& v_293 [[buffer(0)]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]], uint3 gl_NumWorkGroups [[threadgroups_per_grid]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    uint i = column(gl_WorkGroupID, gl_NumWorkGroups, gl_LocalInvocationID);
    uint row = gl_WorkGroupID.y;
    bool _420 = row < v_293.rows->v[0];
    bool _429;
    if (_420)
    {
        _429 = i < v_293.width;
    }
    else
    {
        _429 = _420;
    }
    if (_429)
    {
        float param = v_293.x->v[(row * v_293.ldx) + i];
        v_293.y->v[(row * v_293.ldy) + i] = f(param, v_293);
    }
}

