// Made by backends/_metal_shaders.py of vulkan/binary.comp: change that file.
#pragma clang diagnostic ignored "-Wmissing-prototypes"

#include <metal_stdlib>
#include <simd/simd.h>

using namespace metal;

struct U32;
struct F32;

#ifndef SPIRV_CROSS_CONSTANT_ID_0
#define SPIRV_CROSS_CONSTANT_ID_0 0u
#endif
constant uint OP = SPIRV_CROSS_CONSTANT_ID_0;
#ifndef SPIRV_CROSS_CONSTANT_ID_1
#define SPIRV_CROSS_CONSTANT_ID_1 0u
#endif
constant uint ACT = SPIRV_CROSS_CONSTANT_ID_1;

struct Arguments
{
    device U32* rows;
    device F32* a;
    device F32* b;
    device F32* y;
    uint lda;
    uint ldb;
    uint ldy;
    uint width;
    uint part;
    float low;
    float high;
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

static inline __attribute__((always_inline))
float sigmoid(thread const float& x)
{
    return 1.0 / (1.0 + exp(-x));
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
float bounded(thread const uint& form, thread const float& gate, thread const float& up, thread const float& a, thread const float& b)
{
    float held = fast::clamp(up, -a, a);
    float low = fast::min(gate, a);
    switch (form)
    {
        case 0u:
        {
            float param = low;
            return (low * sigmoid(param)) * held;
        }
        case 1u:
        {
            float param_1 = gate;
            return fast::min(gate * sigmoid(param_1), a) * held;
        }
        case 2u:
        {
            float param_2 = b * low;
            return (low * sigmoid(param_2)) * (held + 1.0);
        }
    }
    float param_3 = gate / a;
    float param_4 = gate;
    float _346;
    if (b > 0.0)
    {
        float param_5 = up / b;
        _346 = b * tanh_(param_5);
    }
    else
    {
        _346 = up;
    }
    return ((a * tanh_(param_3)) * sigmoid(param_4)) * _346;
}

static inline __attribute__((always_inline))
float f(thread const float& s, thread const float& t, constant Arguments& v_393)
{
    switch (OP)
    {
        case 0u:
        {
            return s + t;
        }
        case 1u:
        {
            return s * t;
        }
        case 2u:
        {
            uint param = ACT;
            float param_1 = s;
            return activate(param, param_1) * t;
        }
        case 3u:
        {
            uint param_2 = ACT;
            float param_3 = s;
            float param_4 = t;
            float param_5 = v_393.low;
            float param_6 = v_393.high;
            return bounded(param_2, param_3, param_4, param_5, param_6);
        }
        case 4u:
        {
            uint param_7 = ACT;
            float param_8 = t;
            return s * activate(param_7, param_8);
        }
    }
    return s;
}

kernel void main0(constant Arguments& v_393 [[buffer(0)]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]], uint3 gl_NumWorkGroups [[threadgroups_per_grid]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    uint i = column(gl_WorkGroupID, gl_NumWorkGroups, gl_LocalInvocationID);
    uint row = gl_WorkGroupID.y;
    bool _436 = row >= v_393.rows->v[0];
    bool _446;
    if (!_436)
    {
        _446 = i >= v_393.width;
    }
    else
    {
        _446 = _436;
    }
    if (_446)
    {
        return;
    }
    float param = v_393.a->v[(row * v_393.lda) + i];
    float param_1 = v_393.b->v[(row * v_393.ldb) + (i / v_393.part)];
    v_393.y->v[(row * v_393.ldy) + i] = f(param, param_1, v_393);
}

