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

struct F16;
struct U8;
struct U32;
struct F32;

struct F16
{
    half v[1];
};

struct U8
{
    uchar v[1];
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
uint column(thread uint3& gl_WorkGroupID, thread uint3& gl_NumWorkGroups, thread uint3& gl_LocalInvocationID)
{
    return (group_of_row(gl_WorkGroupID, gl_NumWorkGroups) * 64u) + gl_LocalInvocationID.x;
}

static inline __attribute__((always_inline))
void unpack(thread const ulong& row, thread const uint& part, thread const uint& k, thread spvUnsafeArray<float, 32>& z)
{
    ulong block = row + ulong((part / 8u) * 84u);
    uint group = part % 8u;
    device F16* halves = reinterpret_cast<device F16*>(block + 80ul);
    device U8* scales = reinterpret_cast<device U8*>(block + ulong(2u * group));
    device U8* codes = reinterpret_cast<device U8*>((block + 16ul) + ulong((group / 4u) * 32u));
    for (uint g = 0u; g < 2u; g++)
    {
        uint both = uint(scales->v[g]);
        float d = float(halves->v[0]) * float(both & 15u);
        float low = float(halves->v[1]) * float(both >> uint(4));
        uint _144 = 16u * g;
        for (uint i = _144; i < ((16u * g) + 16u); i++)
        {
            z[i] = (d * float((uint(codes->v[i]) >> ((group % 4u) * 2u)) & 3u)) - low;
        }
    }
}

kernel void main0(constant Arguments& _192 [[buffer(0)]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]], uint3 gl_NumWorkGroups [[threadgroups_per_grid]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    uint part = column(gl_WorkGroupID, gl_NumWorkGroups, gl_LocalInvocationID);
    uint row = gl_WorkGroupID.y;
    bool _199 = row >= _192.rows->v[0];
    bool _210;
    if (!_199)
    {
        _210 = (part * 32u) >= _192.width;
    }
    else
    {
        _210 = _199;
    }
    if (_210)
    {
        return;
    }
    ulong param = _192.w + (ulong(_192.ids->v[row]) * ulong(_192.row_bytes));
    uint param_1 = part;
    uint param_2 = _192.width;
    spvUnsafeArray<float, 32> param_3;
    unpack(param, param_1, param_2, param_3);
    spvUnsafeArray<float, 32> z;
    z = param_3;
    uint i = 0u;
    for (;;)
    {
        bool _247 = i < 32u;
        bool _257;
        if (_247)
        {
            _257 = ((part * 32u) + i) < _192.width;
        }
        else
        {
            _257 = _247;
        }
        if (_257)
        {
            _192.y->v[((row * _192.ldy) + (part * 32u)) + i] = z[i];
            i++;
            continue;
        }
        else
        {
            break;
        }
    }
}

