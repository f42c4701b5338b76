// Made by backends/_metal_shaders.py of vulkan/gaussian_top.comp: change that file.
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
    float deviations;
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

kernel void main0(constant Arguments& _89 [[buffer(0)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float lanes[64];
    uint row = gl_WorkGroupID.y;
    uint lane = gl_LocalInvocationID.x;
    uint from = row * _89.ldx;
    if (row >= _89.rows->v[0])
    {
        return;
    }
    float sum = 0.0;
    for (uint i = lane; i < _89.width; i += 64u)
    {
        sum += _89.x->v[from + i];
    }
    float param = sum;
    float _136 = sum64(param, gl_LocalInvocationID, lanes);
    float mean = _136 / float(_89.width);
    sum = 0.0;
    for (uint i_1 = lane; i_1 < _89.width; i_1 += 64u)
    {
        float v = _89.x->v[from + i_1] - mean;
        sum += (v * v);
    }
    float param_1 = sum;
    float _177 = sum64(param_1, gl_LocalInvocationID, lanes);
    float cut = mean + (_89.deviations * sqrt(_177 / float(_89.width - 1u)));
    for (uint i_2 = lane; i_2 < _89.width; i_2 += 64u)
    {
        _89.y->v[(row * _89.ldy) + i_2] = fast::max(_89.x->v[from + i_2] - cut, 0.0);
    }
}

