// Made by backends/_metal_shaders.py of vulkan/head_bonus.comp: change that file.
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
    device F32* v;
    device F32* r;
    device F32* k;
    device F32* factors;
    device F32* y;
    uint ldx;
    uint ldv;
    uint ldr;
    uint ldk;
    uint ldy;
    uint dk;
    uint dv;
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
    uint head = group_of_row(gl_WorkGroupID, gl_NumWorkGroups);
    uint lane = gl_LocalInvocationID.x;
    if (row >= _104.rows->v[0])
    {
        return;
    }
    float share = 0.0;
    uint _125 = (head * _104.dk) + lane;
    for (uint i = _125; i < ((head + 1u) * _104.dk); i += 64u)
    {
        share += (_104.r->v[(row * _104.ldr) + i] * (_104.k->v[(row * _104.ldk) + i] * _104.factors->v[i]));
    }
    float param = share;
    float _178 = sum64(param, gl_LocalInvocationID, lanes);
    share = _178;
    uint _186 = (head * _104.dv) + lane;
    for (uint i_1 = _186; i_1 < ((head + 1u) * _104.dv); i_1 += 64u)
    {
        _104.y->v[(row * _104.ldy) + i_1] = _104.x->v[(row * _104.ldx) + i_1] + (_104.v->v[(row * _104.ldv) + i_1] * share);
    }
}

