// Made by backends/_metal_shaders.py of vulkan/embed.comp: change that file.
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

struct Arguments
{
    device U32* rows;
    device U32* ids;
    ulong w;
    device F32* y;
    uint ldy;
    uint width;
    uint row_bytes;
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

kernel void main0(constant Arguments& _267 [[buffer(0)]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]], uint3 gl_NumWorkGroups [[threadgroups_per_grid]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    uint part = column(gl_WorkGroupID, gl_NumWorkGroups, gl_LocalInvocationID);
    uint row = gl_WorkGroupID.y;
    bool _273 = row >= _267.rows->v[0];
    bool _284;
    if (!_273)
    {
        _284 = (part * 32u) >= _267.width;
    }
    else
    {
        _284 = _273;
    }
    if (_284)
    {
        return;
    }
    ulong param = _267.w + (ulong(_267.ids->v[row]) * ulong(_267.row_bytes));
    uint param_1 = part;
    uint param_2 = _267.width;
    spvUnsafeArray<float, 32> param_3;
    unpack(param, param_1, param_2, param_3);
    spvUnsafeArray<float, 32> z;
    z = param_3;
    uint i = 0u;
    for (;;)
    {
        bool _320 = i < 32u;
        bool _330;
        if (_320)
        {
            _330 = ((part * 32u) + i) < _267.width;
        }
        else
        {
            _330 = _320;
        }
        if (_330)
        {
            _267.y->v[((row * _267.ldy) + (part * 32u)) + i] = z[i];
            i++;
            continue;
        }
        else
        {
            break;
        }
    }
}

