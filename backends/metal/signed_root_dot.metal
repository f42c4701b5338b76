// Made by backends/_metal_shaders.py of vulkan/signed_root_dot.comp: change that file.
#pragma clang diagnostic ignored "-Wmissing-prototypes"

#include <metal_stdlib>
#include <simd/simd.h>

using namespace metal;

struct U32;
struct F32;

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
    float scale;
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

kernel void main0(constant Arguments& _104 [[buffer(0)]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]], uint3 gl_NumWorkGroups [[threadgroups_per_grid]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    threadgroup float lanes[64];
    uint row = gl_WorkGroupID.y;
    uint group = group_of_row(gl_WorkGroupID, gl_NumWorkGroups);
    uint lane = gl_LocalInvocationID.x;
    if (row >= _104.rows->v[0])
    {
        return;
    }
    uint first = (row * _104.lda) + (group * _104.width);
    uint second = (row * _104.ldb) + (group * _104.width);
    float part = 0.0;
    for (uint i = lane; i < _104.width; i += 64u)
    {
        part += (_104.a->v[first + i] * _104.b->v[second + i]);
    }
    float param = part;
    float _177 = sum64(param, gl_LocalInvocationID, lanes);
    float product = _177 * _104.scale;
    if (lane == 0u)
    {
        _104.y->v[(row * _104.ldy) + group] = sign(product) * sqrt(fast::max(abs(product), 9.9999999747524270787835121154785e-07));
    }
}

