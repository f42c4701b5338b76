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

struct U8;
struct F16;
struct U32;
struct F32;

struct U8
{
    uchar v[1];
};

struct F16
{
    half v[1];
};

struct U32
{
    uint v[1];
};

#ifndef SPIRV_CROSS_CONSTANT_ID_0
#define SPIRV_CROSS_CONSTANT_ID_0 8u
#endif
constant uint LANES = SPIRV_CROSS_CONSTANT_ID_0;
constant uint _248 = (64u / LANES);
#ifndef SPIRV_CROSS_CONSTANT_ID_6
#define SPIRV_CROSS_CONSTANT_ID_6 1u
#endif
constant uint PER = SPIRV_CROSS_CONSTANT_ID_6;
constant uint _250 = (_248 * PER);
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

struct F32
{
    float v[1];
};

#ifndef SPIRV_CROSS_CONSTANT_ID_1
#define SPIRV_CROSS_CONSTANT_ID_1 false
#endif
constant bool ROUTED = SPIRV_CROSS_CONSTANT_ID_1;
constant uint _339 = (TILE * PER);
constant uint _341 = (TILE * PER);
constant uint _405 = (TILE * 32u);
constant uint _527 = (TILE * PER);
constant uint _529 = (TILE * PER);
constant uint _530 = (_529 * 64u);
constant uint _546 = (LANES / 2u);
constant uint _567 = (TILE * PER);
constant uint _601 = (TILE * PER);
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
uint2 scale_and_minimum(device U8* const thread & _packed, thread const uint& group)
{
    if (group < 4u)
    {
        return uint2(uint(_packed->v[group]), uint(_packed->v[group + 4u])) & uint2(63u);
    }
    uint four = uint(_packed->v[group + 4u]);
    return uint2((four & 15u) | ((uint(_packed->v[group - 4u]) >> uint(6)) << uint(4)), (four >> uint(4)) | ((uint(_packed->v[group]) >> uint(6)) << uint(4)));
}

static inline __attribute__((always_inline))
void unpack(thread const ulong& row, thread const uint& part, thread const uint& k, thread spvUnsafeArray<float, 32>& z)
{
    ulong block = row + ulong((part / 8u) * 176u);
    uint group = part % 8u;
    uint shift = (part % 2u) * 4u;
    device U8* param = reinterpret_cast<device U8*>(block + 4ul);
    uint param_1 = group;
    uint2 s = scale_and_minimum(param, param_1);
    float d = float((reinterpret_cast<device F16*>(block))->v[0]) * float(s.x);
    float low = float((reinterpret_cast<device F16*>(block))->v[1]) * float(s.y);
    device U32* high = reinterpret_cast<device U32*>(block + 16ul);
    device U32* codes = reinterpret_cast<device U32*>((block + 48ul) + ulong((group / 2u) * 32u));
    for (uint i = 0u; i < 8u; i++)
    {
        uint four = codes->v[i] >> shift;
        uint bits = high->v[i] >> group;
        for (uint j = 0u; j < 4u; j++)
        {
            z[(4u * i) + j] = (d * float(((four >> (8u * j)) & 15u) | (((bits >> (8u * j)) & 1u) << uint(4)))) - low;
        }
    }
}

kernel void main0(constant Arguments& _277 [[buffer(0)]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]], uint3 gl_NumWorkGroups [[threadgroups_per_grid]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    threadgroup float sums[_530];
    uint outs = _250;
    uint own = gl_LocalInvocationID.x;
    uint lane = own % LANES;
    uint out0 = (group_of_row(gl_WorkGroupID, gl_NumWorkGroups) * outs) + ((own / LANES) * PER);
    uint first = gl_WorkGroupID.y * TILE;
    uint count = _277.rows->v[0];
    uint all_outs = _277.n * _277.heads;
    if (first >= count)
    {
        return;
    }
    uint _300;
    if (ROUTED)
    {
        _300 = _277.ids->v[first];
    }
    else
    {
        _300 = 0u;
    }
    uint expert = _300;
    uint _315;
    if (_277.heads > 1u)
    {
        _315 = min((out0 / _277.n), (_277.heads - 1u)) * _277.k;
    }
    else
    {
        _315 = 0u;
    }
    uint column0 = _315;
    spvUnsafeArray<float, _341> acc;
    for (uint a = 0u; a < _339; a++)
    {
        acc[a] = 0.0;
    }
    spvUnsafeArray<float, _405> xs;
    spvUnsafeArray<float, 32> param_3;
    for (uint part = lane; (part * 32u) < _277.k; part += LANES)
    {
        uint left = min(32u, (_277.k - (part * 32u)));
        for (uint t = 0u; t < TILE; t++)
        {
            uint from = (((min((first + t), (count - 1u)) / _277.fan) * _277.ldx) + column0) + (part * 32u);
            for (uint i = 0u; i < 32u; i++)
            {
                xs[(t * 32u) + i] = _277.x->v[from + min(i, (left - 1u))];
            }
        }
        for (uint p = 0u; p < PER; p++)
        {
            uint place = min((out0 + p), (all_outs - 1u));
            ulong param = _277.w + (((ulong(expert) * ulong(_277.n)) + ulong(place)) * ulong(_277.row_bytes));
            uint param_1 = part;
            uint param_2 = _277.k;
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
                uint _508 = (p * TILE) + t_1;
                acc[_508] += sum;
            }
        }
    }
    for (uint a_1 = 0u; a_1 < _527; a_1++)
    {
        sums[(a_1 * 64u) + own] = acc[a_1];
    }
    for (uint _step = _546; _step > 0u; _step = _step >> uint(1))
    {
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (lane < _step)
        {
            for (uint a_2 = 0u; a_2 < _567; a_2++)
            {
                uint _572 = (a_2 * 64u) + own;
                sums[_572] += sums[((a_2 * 64u) + own) + _step];
            }
        }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (lane != 0u)
    {
        return;
    }
    for (uint a_3 = 0u; a_3 < _601; a_3++)
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
            sum_1 *= _277.scales->v[expert];
        }
        if (WEIGHED)
        {
            sum_1 *= _277.weights->v[row];
        }
        if (BIASED)
        {
            sum_1 += _277.bias0->v[(expert * _277.n) + out_];
        }
        _277.y->v[(row * _277.ldy) + out_] = sum_1;
    }
}

