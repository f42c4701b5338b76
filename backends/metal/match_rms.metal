// Made by backends/_metal_shaders.py of vulkan/match_rms.comp: change that file.
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
    device F32* like;
    device F32* y;
    uint ldx;
    uint ldl;
    uint ldy;
    uint width;
    float least;
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

kernel void main0(constant Arguments& _103 [[buffer(0)]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]], uint3 gl_NumWorkGroups [[threadgroups_per_grid]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    threadgroup float lanes[64];
    uint row = gl_WorkGroupID.y;
    uint lane = gl_LocalInvocationID.x;
    uint first = (row * _103.ldx) + (group_of_row(gl_WorkGroupID, gl_NumWorkGroups) * _103.width);
    uint to = (row * _103.ldy) + (group_of_row(gl_WorkGroupID, gl_NumWorkGroups) * _103.width);
    if (row >= _103.rows->v[0])
    {
        return;
    }
    float own = 0.0;
    float target = 0.0;
    for (uint i = lane; i < _103.width; i += 64u)
    {
        float v = _103.x->v[first + i];
        float w = _103.like->v[(row * _103.ldl) + i];
        own += (v * v);
        target += (w * w);
    }
    float param = own;
    float _188 = sum64(param, gl_LocalInvocationID, lanes);
    own = fast::max(_188 / float(_103.width), _103.least);
    float param_1 = target;
    float _200 = sum64(param_1, gl_LocalInvocationID, lanes);
    target = _200 / float(_103.width);
    float factor = sqrt(target / own);
    for (uint i_1 = lane; i_1 < _103.width; i_1 += 64u)
    {
        _103.y->v[to + i_1] = _103.x->v[first + i_1] * factor;
    }
}

