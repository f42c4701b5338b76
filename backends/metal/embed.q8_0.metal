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
    device U16* block = reinterpret_cast<device U16*>(row + ulong(part * 34u));
    float d = float((reinterpret_cast<device F16*>(row + ulong(part * 34u)))->v[0]);
    for (uint i = 0u; i < 16u; i++)
    {
        int two = int(uint(block->v[1u + i]) << uint(16));
        z[2u * i] = d * float((two << 8) >> 24);
        z[(2u * i) + 1u] = d * float(two >> 24);
    }
}

kernel void main0(constant Arguments& _146 [[buffer(0)]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]], uint3 gl_NumWorkGroups [[threadgroups_per_grid]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    uint part = column(gl_WorkGroupID, gl_NumWorkGroups, gl_LocalInvocationID);
    uint row = gl_WorkGroupID.y;
    bool _153 = row >= _146.rows->v[0];
    bool _164;
    if (!_153)
    {
        _164 = (part * 32u) >= _146.width;
    }
    else
    {
        _164 = _153;
    }
    if (_164)
    {
        return;
    }
    ulong param = _146.w + (ulong(_146.ids->v[row]) * ulong(_146.row_bytes));
    uint param_1 = part;
    uint param_2 = _146.width;
    spvUnsafeArray<float, 32> param_3;
    unpack(param, param_1, param_2, param_3);
    spvUnsafeArray<float, 32> z;
    z = param_3;
    uint i = 0u;
    for (;;)
    {
        bool _201 = i < 32u;
        bool _211;
        if (_201)
        {
            _211 = ((part * 32u) + i) < _146.width;
        }
        else
        {
            _211 = _201;
        }
        if (_211)
        {
            _146.y->v[((row * _146.ldy) + (part * 32u)) + i] = z[i];
            i++;
            continue;
        }
        else
        {
            break;
        }
    }
}

