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
struct U16;
struct F16;
struct U32;
struct F32;

struct U8
{
    uchar v[1];
};

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

constant spvUnsafeArray<float, 16> _175 = spvUnsafeArray<float, 16>({ -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0 });

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
    ulong block = row + ulong((part / 8u) * 136u);
    uint group = part % 8u;
    uint six = (uint((reinterpret_cast<device U8*>(block + 4ul))->v[group / 2u]) >> ((group % 2u) * 4u)) & 15u;
    six |= (((uint((reinterpret_cast<device U16*>(block))->v[1]) >> (2u * group)) & 3u) << uint(4));
    float d = float((reinterpret_cast<device F16*>(block))->v[0]) * float(int(six) - 32);
    device U8* codes = reinterpret_cast<device U8*>((block + 8ul) + ulong(16u * group));
    for (uint i = 0u; i < 16u; i++)
    {
        uint two = uint(codes->v[i]);
        z[i] = d * _175[two & 15u];
        z[i + 16u] = d * _175[two >> uint(4)];
    }
}

kernel void main0(constant Arguments& _211 [[buffer(0)]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]], uint3 gl_NumWorkGroups [[threadgroups_per_grid]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    uint part = column(gl_WorkGroupID, gl_NumWorkGroups, gl_LocalInvocationID);
    uint row = gl_WorkGroupID.y;
    bool _218 = row >= _211.rows->v[0];
    bool _229;
    if (!_218)
    {
        _229 = (part * 32u) >= _211.width;
    }
    else
    {
        _229 = _218;
    }
    if (_229)
    {
        return;
    }
    ulong param = _211.w + (ulong(_211.ids->v[row]) * ulong(_211.row_bytes));
    uint param_1 = part;
    uint param_2 = _211.width;
    spvUnsafeArray<float, 32> param_3;
    unpack(param, param_1, param_2, param_3);
    spvUnsafeArray<float, 32> z;
    z = param_3;
    uint i = 0u;
    for (;;)
    {
        bool _266 = i < 32u;
        bool _276;
        if (_266)
        {
            _276 = ((part * 32u) + i) < _211.width;
        }
        else
        {
            _276 = _266;
        }
        if (_276)
        {
            _211.y->v[((row * _211.ldy) + (part * 32u)) + i] = z[i];
            i++;
            continue;
        }
        else
        {
            break;
        }
    }
}

