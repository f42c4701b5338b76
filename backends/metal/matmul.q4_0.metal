// Made by backends/_metal_shaders.py of vulkan/matmul.comp: change that file.
#pragma clang diagnostic ignored "-Wmissing-prototypes"
#pragma clang diagnostic ignored "-Wmissing-braces"

#include <metal_stdlib>
#include <simd/simd.h>

using namespace metal;

template<typename T, size_t Num>
struct spvUnsafeArray
{
    T elements[Num ? Num : 1];
    
    thread T& operator [] (size_t pos) thread
    {
        return elements[pos];
    }
    constexpr const thread T& operator [] (size_t pos) const thread
    {
        return elements[pos];
    }
    
    device T& operator [] (size_t pos) device
    {
        return elements[pos];
    }
    constexpr const device T& operator [] (size_t pos) const device
    {
        return elements[pos];
    }
    
    constexpr const constant T& operator [] (size_t pos) const constant
    {
        return elements[pos];
    }
    
    threadgroup T& operator [] (size_t pos) threadgroup
    {
        return elements[pos];
    }
    constexpr const threadgroup T& operator [] (size_t pos) const threadgroup
    {
        return elements[pos];
    }
};

struct U16;
struct F16;
struct U32;
struct F32;

struct U16
{
    ushort v[1];
};

struct F16
{
    half v[1];
};

#ifndef SPIRV_CROSS_CONSTANT_ID_0
#define SPIRV_CROSS_CONSTANT_ID_0 8u
#endif
constant uint LANES = SPIRV_CROSS_CONSTANT_ID_0;
constant uint _158 = (64u / LANES);
#ifndef SPIRV_CROSS_CONSTANT_ID_6
#define SPIRV_CROSS_CONSTANT_ID_6 1u
#endif
constant uint PER = SPIRV_CROSS_CONSTANT_ID_6;
constant uint _160 = (_158 * PER);
#ifndef SPIRV_CROSS_CONSTANT_ID_5
#define SPIRV_CROSS_CONSTANT_ID_5 1u
#endif
constant uint TILE = SPIRV_CROSS_CONSTANT_ID_5;

struct Arguments
{
    device U32* rows;
    ulong w;
    device F32* x;
    device F32* y;
    device F32* bias0;
    device F32* scales;
    device F32* weights;
    device U32* ids;
    uint n;
    uint k;
    uint ldx;
    uint ldy;
    uint row_bytes;
    uint fan;
    uint heads;
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
#define SPIRV_CROSS_CONSTANT_ID_1 false
#endif
constant bool ROUTED = SPIRV_CROSS_CONSTANT_ID_1;
constant uint _252 = (TILE * PER);
constant uint _254 = (TILE * PER);
constant uint _318 = (TILE * 32u);
constant uint _439 = (TILE * PER);
constant uint _441 = (TILE * PER);
constant uint _442 = (_441 * 64u);
constant uint _458 = (LANES / 2u);
constant uint _479 = (TILE * PER);
constant uint _513 = (TILE * PER);
#ifndef SPIRV_CROSS_CONSTANT_ID_3
#define SPIRV_CROSS_CONSTANT_ID_3 false
#endif
constant bool SCALED = SPIRV_CROSS_CONSTANT_ID_3;
#ifndef SPIRV_CROSS_CONSTANT_ID_4
#define SPIRV_CROSS_CONSTANT_ID_4 false
#endif
constant bool WEIGHED = SPIRV_CROSS_CONSTANT_ID_4;
#ifndef SPIRV_CROSS_CONSTANT_ID_2
#define SPIRV_CROSS_CONSTANT_ID_2 false
#endif
constant bool BIASED = SPIRV_CROSS_CONSTANT_ID_2;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(64u, 1u, 1u);

static inline __attribute__((always_inline))
uint group_of_row(thread uint3& gl_WorkGroupID, thread uint3& gl_NumWorkGroups)
{
    return gl_WorkGroupID.x + (gl_WorkGroupID.z * gl_NumWorkGroups.x);
}

static inline __attribute__((always_inline))
void unpack(thread const ulong& row, thread const uint& part, thread const uint& k, thread spvUnsafeArray<float, 32>& z)
{
    device U16* block = reinterpret_cast<device U16*>(row + ulong(part * 18u));
    device F16* halves = reinterpret_cast<device F16*>(row + ulong(part * 18u));
    float d = float(halves->v[0]);
    float low = (-8.0) * d;
    for (uint i = 0u; i < 8u; i++)
    {
        uint two = uint(block->v[1u + i]);
        z[2u * i] = (d * float(two & 15u)) + low;
        z[(2u * i) + 1u] = (d * float((two >> uint(8)) & 15u)) + low;
        z[(2u * i) + 16u] = (d * float((two >> uint(4)) & 15u)) + low;
        z[(2u * i) + 17u] = (d * float(two >> uint(12))) + low;
    }
}

kernel void main0(constant Arguments& _190 [[buffer(0)]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]], uint3 gl_NumWorkGroups [[threadgroups_per_grid]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    threadgroup float sums[_442];
    uint outs = _160;
    uint own = gl_LocalInvocationID.x;
    uint lane = own % LANES;
    uint out0 = (group_of_row(gl_WorkGroupID, gl_NumWorkGroups) * outs) + ((own / LANES) * PER);
    uint first = gl_WorkGroupID.y * TILE;
    uint count = _190.rows->v[0];
    uint all_outs = _190.n * _190.heads;
    if (first >= count)
    {
        return;
    }
    uint _213;
    if (ROUTED)
    {
        _213 = _190.ids->v[first];
    }
    else
    {
        _213 = 0u;
    }
    uint expert = _213;
    uint _228;
    if (_190.heads > 1u)
    {
        _228 = min((out0 / _190.n), (_190.heads - 1u)) * _190.k;
    }
    else
    {
        _228 = 0u;
    }
    uint column0 = _228;
    spvUnsafeArray<float, _254> acc;
    for (uint a = 0u; a < _252; a++)
    {
        acc[a] = 0.0;
    }
    spvUnsafeArray<float, _318> xs;
    spvUnsafeArray<float, 32> param_3;
    for (uint part = lane; (part * 32u) < _190.k; part += LANES)
    {
        uint left = min(32u, (_190.k - (part * 32u)));
        for (uint t = 0u; t < TILE; t++)
        {
            uint from = (((min((first + t), (count - 1u)) / _190.fan) * _190.ldx) + column0) + (part * 32u);
            for (uint i = 0u; i < 32u; i++)
            {
                xs[(t * 32u) + i] = _190.x->v[from + min(i, (left - 1u))];
            }
        }
        for (uint p = 0u; p < PER; p++)
        {
            uint place = min((out0 + p), (all_outs - 1u));
            ulong param = _190.w + (((ulong(expert) * ulong(_190.n)) + ulong(place)) * ulong(_190.row_bytes));
            uint param_1 = part;
            uint param_2 = _190.k;
            unpack(param, param_1, param_2, param_3);
            spvUnsafeArray<float, 32> z;
            z = param_3;
            for (uint t_1 = 0u; t_1 < TILE; t_1++)
            {
                float sum = 0.0;
                for (uint i_1 = 0u; i_1 < 32u; i_1++)
                {
                    sum += (z[i_1] * xs[(t_1 * 32u) + i_1]);
                }
                uint _420 = (p * TILE) + t_1;
                acc[_420] += sum;
            }
        }
    }
    for (uint a_1 = 0u; a_1 < _439; a_1++)
    {
        sums[(a_1 * 64u) + own] = acc[a_1];
    }
    for (uint _step = _458; _step > 0u; _step = _step >> uint(1))
    {
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (lane < _step)
        {
            for (uint a_2 = 0u; a_2 < _479; a_2++)
            {
                uint _484 = (a_2 * 64u) + own;
                sums[_484] += sums[((a_2 * 64u) + own) + _step];
            }
        }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (lane != 0u)
    {
        return;
    }
    for (uint a_3 = 0u; a_3 < _513; a_3++)
    {
        uint out_ = out0 + (a_3 / TILE);
        uint row = first + (a_3 % TILE);
        if ((out_ >= all_outs) || (row >= count))
        {
            continue;
        }
        float sum_1 = sums[(a_3 * 64u) + own];
        if (SCALED)
        {
            sum_1 *= _190.scales->v[expert];
        }
        if (WEIGHED)
        {
            sum_1 *= _190.weights->v[row];
        }
        if (BIASED)
        {
            sum_1 += _190.bias0->v[(expert * _190.n) + out_];
        }
        _190.y->v[(row * _190.ldy) + out_] = sum_1;
    }
}

