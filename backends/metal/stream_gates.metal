// Made by backends/_metal_shaders.py of vulkan/stream_gates.comp: change that file.
#pragma clang diagnostic ignored "-Wmissing-prototypes"

#include <metal_stdlib>
#include <simd/simd.h>

using namespace metal;

struct U32;
struct F32;

#ifndef SPIRV_CROSS_CONSTANT_ID_0
#define SPIRV_CROSS_CONSTANT_ID_0 4u
#endif
constant uint S = SPIRV_CROSS_CONSTANT_ID_0;
constant uint _51 = (S * S);

struct Arguments
{
    device U32* rows;
    device F32* x;
    device F32* scale;
    device F32* base;
    device F32* y;
    uint ldx;
    uint ldy;
    uint width;
    uint iterations;
    float eps;
    float magnitude;
    float post_eps;
};

struct U32
{
    uint v[1];
};

struct F32
{
    float v[1];
};

constant uint _307 = (2u * S);
constant uint _333 = (2u * S);
constant uint _342 = (2u * S);
constant uint _358 = (S * S);
constant uint _366 = (2u * S);
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(64u, 1u, 1u);

static inline __attribute__((always_inline))
float sigmoid(thread const float& x)
{
    return 1.0 / (1.0 + exp(-x));
}

static inline __attribute__((always_inline))
void divide(thread const uint& first, thread const uint& step_, thread const float& add, threadgroup float (&mix_)[_51])
{
    float total = 0.0;
    for (uint i = 0u; i < S; i++)
    {
        total += mix_[first + (step_ * i)];
    }
    total += add;
    for (uint i_1 = 0u; i_1 < S; i_1++)
    {
        uint _84 = first + (step_ * i_1);
        mix_[_84] /= total;
    }
}

static inline __attribute__((always_inline))
void softmax(thread const uint& first, threadgroup float (&mix_)[_51], constant Arguments& v_160)
{
    float top = mix_[first];
    for (uint i = 1u; i < S; i++)
    {
        top = fast::max(top, mix_[first + i]);
    }
    for (uint i_1 = 0u; i_1 < S; i_1++)
    {
        mix_[first + i_1] = exp(mix_[first + i_1] - top);
    }
    uint param = first;
    uint param_1 = 1u;
    float param_2 = 0.0;
    divide(param, param_1, param_2, mix_);
    for (uint i_2 = 0u; i_2 < S; i_2++)
    {
        uint _151 = first + i_2;
        mix_[_151] += v_160.eps;
    }
}

static inline __attribute__((always_inline))
void balance(thread const uint& lane, threadgroup float (&mix_)[_51], constant Arguments& v_160)
{
    if (lane < S)
    {
        uint param = S * lane;
        softmax(param, mix_, v_160);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint turn = 0u; turn < v_160.iterations; turn++)
    {
        if ((turn > 0u) && (lane < S))
        {
            uint param_1 = S * lane;
            uint param_2 = 1u;
            float param_3 = v_160.eps;
            divide(param_1, param_2, param_3, mix_);
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (lane < S)
        {
            uint param_4 = lane;
            uint param_5 = S;
            float param_6 = v_160.eps;
            divide(param_4, param_5, param_6, mix_);
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
}

kernel void main0(constant Arguments& v_160 [[buffer(0)]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    threadgroup float mix_[_51];
    uint row = gl_WorkGroupID.y;
    uint lane = gl_LocalInvocationID.x;
    if (row >= v_160.rows->v[0])
    {
        return;
    }
    for (uint i = lane; i < v_160.width; i += 64u)
    {
        float z = (v_160.x->v[(row * v_160.ldx) + i] * v_160.scale->v[i]) + v_160.base->v[i];
        if (i < S)
        {
            float param = z;
            v_160.y->v[(row * v_160.ldy) + i] = sigmoid(param) + v_160.eps;
        }
        else
        {
            if (i < _307)
            {
                float param_1 = z;
                v_160.y->v[(row * v_160.ldy) + i] = (sigmoid(param_1) * v_160.magnitude) + v_160.post_eps;
            }
            else
            {
                mix_[i - _333] = z;
            }
        }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (v_160.width <= _342)
    {
        return;
    }
    uint param_2 = lane;
    balance(param_2, mix_, v_160);
    for (uint i_1 = lane; i_1 < _358; i_1 += 64u)
    {
        v_160.y->v[((row * v_160.ldy) + _366) + i_1] = mix_[i_1];
    }
}

