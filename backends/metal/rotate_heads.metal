// Made by backends/_metal_shaders.py of vulkan/rotate_heads.comp: change that file.
#pragma clang diagnostic ignored "-Wmissing-prototypes"

#include <metal_stdlib>
#include <simd/simd.h>

using namespace metal;

template<typename T>
[[clang::optnone]] T spvFMul(T l, T r)
{
    return fma(l, r, T(0));
}

template<typename T>
[[clang::optnone]] T spvFAdd(T l, T r)
{
    return fma(T(1), l, r);
}

template<typename T>
[[clang::optnone]] T spvFSub(T l, T r)
{
    return fma(T(-1), r, l);
}

struct U32;
struct F32;

#ifndef SPIRV_CROSS_CONSTANT_ID_0
#define SPIRV_CROSS_CONSTANT_ID_0 64u
#endif
constant uint ROOM = SPIRV_CROSS_CONSTANT_ID_0;

struct Arguments
{
    device U32* rows;
    device F32* x;
    device F32* y;
    uint ldx;
    uint ldy;
};

struct U32
{
    uint v[1];
};

struct F32
{
    float v[1];
};

#ifndef SPIRV_CROSS_CONSTANT_ID_1
#define SPIRV_CROSS_CONSTANT_ID_1 64u
#endif
constant uint SIZE = SPIRV_CROSS_CONSTANT_ID_1;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(64u, 1u, 1u);

static inline __attribute__((always_inline))
uint group_of_row(thread uint3& gl_WorkGroupID, thread uint3& gl_NumWorkGroups)
{
    return gl_WorkGroupID.x + (gl_WorkGroupID.z * gl_NumWorkGroups.x);
}

static inline __attribute__((always_inline))
void rotate(thread const uint& first, thread const uint& width, thread const uint& size, thread uint3& gl_LocalInvocationID, threadgroup float (&numbers)[ROOM])
{
    if (size == 0u)
    {
        return;
    }
    uint lane = gl_LocalInvocationID.x;
    float factor = 1.0;
    for (uint left = size; left > 1u; left = left >> uint(2))
    {
        factor = spvFMul(factor, (left == 2u) ? 0.707106769084930419921875 : 0.5);
    }
    for (uint _step = 1u; _step < size; _step *= 2u)
    {
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint i = lane; i < (width / 2u); i += 64u)
        {
            uint at = (first + (2u * i)) - (i % _step);
            float a = numbers[at];
            float b = numbers[at + _step];
            numbers[at] = spvFAdd(a, b);
            numbers[at + _step] = spvFSub(a, b);
        }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint i_1 = lane; i_1 < width; i_1 += 64u)
    {
        float x = spvFMul(numbers[first + i_1], factor);
        numbers[first + i_1] = x;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
}

kernel void main0(constant Arguments& _177 [[buffer(0)]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]], uint3 gl_NumWorkGroups [[threadgroups_per_grid]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    threadgroup float numbers[ROOM];
    uint row = gl_WorkGroupID.y;
    uint first = group_of_row(gl_WorkGroupID, gl_NumWorkGroups) * ROOM;
    uint lane = gl_LocalInvocationID.x;
    if (row >= _177.rows->v[0])
    {
        return;
    }
    for (uint i = lane; i < ROOM; i += 64u)
    {
        numbers[i] = _177.x->v[((row * _177.ldx) + first) + i];
    }
    uint param = 0u;
    uint param_1 = ROOM;
    uint param_2 = SIZE;
    rotate(param, param_1, param_2, gl_LocalInvocationID, numbers);
    for (uint i_1 = lane; i_1 < ROOM; i_1 += 64u)
    {
        _177.y->v[((row * _177.ldy) + first) + i_1] = numbers[i_1];
    }
}

