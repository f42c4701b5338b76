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
struct U32;
struct F32;

struct U16
{
    ushort v[1];
};

#ifndef SPIRV_CROSS_CONSTANT_ID_0
#define SPIRV_CROSS_CONSTANT_ID_0 8u
#endif
constant uint LANES = SPIRV_CROSS_CONSTANT_ID_0;
constant uint _102 = (64u / LANES);
#ifndef SPIRV_CROSS_CONSTANT_ID_6
#define SPIRV_CROSS_CONSTANT_ID_6 1u
#endif
constant uint PER = SPIRV_CROSS_CONSTANT_ID_6;
constant uint _104 = (_102 * PER);
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
constant uint _197 = (TILE * PER);
constant uint _199 = (TILE * PER);
constant uint _262 = (TILE * 32u);
constant uint _384 = (TILE * PER);
constant uint _386 = (TILE * PER);
constant uint _387 = (_386 * 64u);
constant uint _403 = (LANES / 2u);
constant uint _424 = (TILE * PER);
constant uint _458 = (TILE * PER);
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
    uint left = min(32u, (k - (part * 32u)));
    float _73;
    for (uint i = 0u; i < 32u; i++)
    {
        uint at = (part * 32u) + min(i, (left - 1u));
        if (i < left)
        {
            _73 = as_type<float>(uint((reinterpret_cast<device U16*>(row))->v[at]) << uint(16));
        }
        else
        {
            _73 = 0.0;
        }
        z[i] = _73;
    }
}

kernel void main0(constant Arguments& _134 [[buffer(0)]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]], uint3 gl_NumWorkGroups [[threadgroups_per_grid]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    threadgroup float sums[_387];
    uint outs = _104;
    uint own = gl_LocalInvocationID.x;
    uint lane = own % LANES;
    uint out0 = (group_of_row(gl_WorkGroupID, gl_NumWorkGroups) * outs) + ((own / LANES) * PER);
    uint first = gl_WorkGroupID.y * TILE;
    uint count = _134.rows->v[0];
    uint all_outs = _134.n * _134.heads;
    if (first >= count)
    {
        return;
    }
    uint _158;
    if (ROUTED)
    {
        _158 = _134.ids->v[first];
    }
    else
    {
        _158 = 0u;
    }
    uint expert = _158;
    uint _173;
    if (_134.heads > 1u)
    {
        _173 = min((out0 / _134.n), (_134.heads - 1u)) * _134.k;
    }
    else
    {
        _173 = 0u;
    }
    uint column0 = _173;
    spvUnsafeArray<float, _199> acc;
    for (uint a = 0u; a < _197; a++)
    {
        acc[a] = 0.0;
    }
    spvUnsafeArray<float, _262> xs;
    spvUnsafeArray<float, 32> param_3;
    for (uint part = lane; (part * 32u) < _134.k; part += LANES)
    {
        uint left = min(32u, (_134.k - (part * 32u)));
        for (uint t = 0u; t < TILE; t++)
        {
            uint from = (((min((first + t), (count - 1u)) / _134.fan) * _134.ldx) + column0) + (part * 32u);
            for (uint i = 0u; i < 32u; i++)
            {
                xs[(t * 32u) + i] = _134.x->v[from + min(i, (left - 1u))];
            }
        }
        for (uint p = 0u; p < PER; p++)
        {
            uint place = min((out0 + p), (all_outs - 1u));
            ulong param = _134.w + (((ulong(expert) * ulong(_134.n)) + ulong(place)) * ulong(_134.row_bytes));
            uint param_1 = part;
            uint param_2 = _134.k;
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
                uint _365 = (p * TILE) + t_1;
                acc[_365] += sum;
            }
        }
    }
    for (uint a_1 = 0u; a_1 < _384; a_1++)
    {
        sums[(a_1 * 64u) + own] = acc[a_1];
    }
    for (uint _step = _403; _step > 0u; _step = _step >> uint(1))
    {
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (lane < _step)
        {
            for (uint a_2 = 0u; a_2 < _424; a_2++)
            {
                uint _429 = (a_2 * 64u) + own;
                sums[_429] += sums[((a_2 * 64u) + own) + _step];
            }
        }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (lane != 0u)
    {
        return;
    }
    for (uint a_3 = 0u; a_3 < _458; a_3++)
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
            sum_1 *= _134.scales->v[expert];
        }
        if (WEIGHED)
        {
            sum_1 *= _134.weights->v[row];
        }
        if (BIASED)
        {
            sum_1 += _134.bias0->v[(expert * _134.n) + out_];
        }
        _134.y->v[(row * _134.ldy) + out_] = sum_1;
    }
}

