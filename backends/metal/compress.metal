// Made by backends/_metal_shaders.py of vulkan/compress.comp: change that file.
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

struct Run;
struct U32;
struct Segments;
struct F32;
struct F16;
struct U16;

struct Run
{
    uint n_tokens;
    uint n_outputs;
    ulong segments;
    ulong tables;
    ulong row_segments;
};

struct U32
{
    uint v[1];
};

struct Segments
{
    int v[1];
};

struct F32
{
    float v[1];
};

struct F16
{
    half v[1];
};

struct U16
{
    ushort v[1];
};

struct Arguments
{
    device Run* run;
    ulong pages;
    device F32* ape;
    device F32* y;
    uint ldy;
    uint width;
    uint n;
    uint key_bytes;
    uint page_bytes;
    uint cache;
    uint n_caches;
};

#ifndef SPIRV_CROSS_CONSTANT_ID_2
#define SPIRV_CROSS_CONSTANT_ID_2 4u
#endif
constant uint RATIO = SPIRV_CROSS_CONSTANT_ID_2;
#ifndef SPIRV_CROSS_CONSTANT_ID_3
#define SPIRV_CROSS_CONSTANT_ID_3 false
#endif
constant bool OVERLAPS = SPIRV_CROSS_CONSTANT_ID_3;
#ifndef SPIRV_CROSS_CONSTANT_ID_1
#define SPIRV_CROSS_CONSTANT_ID_1 0u
#endif
constant uint VALUES = SPIRV_CROSS_CONSTANT_ID_1;
#ifndef SPIRV_CROSS_CONSTANT_ID_0
#define SPIRV_CROSS_CONSTANT_ID_0 0u
#endif
constant uint KEYS = SPIRV_CROSS_CONSTANT_ID_0;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(64u, 1u, 1u);

constant spvUnsafeArray<float, 16> _464 = spvUnsafeArray<float, 16>({ -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0 });

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
uint segment_of(device Run* const thread & run, thread const uint& row)
{
    return (reinterpret_cast<device U32*>(run->row_segments))->v[row];
}

static inline __attribute__((always_inline))
int word_of(device Run* const thread & run, thread const uint& segment, thread const uint& word)
{
    return (reinterpret_cast<device Segments*>(run->segments))->v[(segment * 8u) + word];
}

static inline __attribute__((always_inline))
int position_of(device Run* const thread & run, thread const uint& segment, thread const uint& row)
{
    device Run* param = run;
    uint param_1 = segment;
    uint param_2 = 2u;
    int _162 = word_of(param, param_1, param_2);
    uint _163 = row;
    device Run* param_3 = run;
    uint param_4 = segment;
    uint param_5 = 0u;
    return (_162 + int(_163)) - word_of(param_3, param_4, param_5);
}

static inline __attribute__((always_inline))
ulong page_of(device Run* const thread & run, thread const uint& segment, thread const uint& n_caches, thread const uint& cache, thread const uint& block, thread const ulong& pages, thread const uint& page_bytes)
{
    device U32* tables = reinterpret_cast<device U32*>(run->tables);
    uint entry = ((segment * n_caches) + cache) * 2u;
    uint page = tables->v[tables->v[entry] + (block % tables->v[entry + 1u])];
    return pages + (ulong(page) * ulong(page_bytes));
}

static inline __attribute__((always_inline))
float load_number(thread const uint& type, thread const ulong& base, thread const uint& i)
{
    if (type == 0u)
    {
        return (reinterpret_cast<device F32*>(base))->v[i];
    }
    if (type == 1u)
    {
        return float((reinterpret_cast<device F16*>(base))->v[i]);
    }
    return as_type<float>(uint((reinterpret_cast<device U16*>(base))->v[i]) << uint(16));
}

kernel void main0(constant Arguments& _230 [[buffer(0)]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]], uint3 gl_NumWorkGroups [[threadgroups_per_grid]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    uint i = column(gl_WorkGroupID, gl_NumWorkGroups, gl_LocalInvocationID);
    uint row = gl_WorkGroupID.y;
    bool _236 = row >= _230.run->n_tokens;
    bool _246;
    if (!_236)
    {
        _246 = i >= _230.n;
    }
    else
    {
        _246 = _236;
    }
    if (_246)
    {
        return;
    }
    device Run* param = _230.run;
    uint param_1 = row;
    uint segment = segment_of(param, param_1);
    device Run* param_2 = _230.run;
    uint param_3 = segment;
    uint param_4 = row;
    uint end = uint(position_of(param_2, param_3, param_4)) + 1u;
    float top = -1000000015047466219876688855040.0;
    float total = 0.0;
    float value = 0.0;
    if ((end % RATIO) != 0u)
    {
        _230.y->v[(row * _230.ldy) + i] = 0.0;
        return;
    }
    uint last = end - RATIO;
    uint _296;
    if (OVERLAPS)
    {
        _296 = last - min(last, RATIO);
    }
    else
    {
        _296 = last;
    }
    uint first = _296;
    uint _351;
    for (uint s = first; s < end; s++)
    {
        uint _319 = s;
        device Run* param_5 = _230.run;
        uint param_6 = segment;
        uint param_7 = _230.n_caches;
        uint param_8 = _230.cache;
        uint param_9 = _319 / 64u;
        ulong param_10 = _230.pages;
        uint param_11 = _230.page_bytes;
        ulong page = page_of(param_5, param_6, param_7, param_8, param_9, param_10, param_11);
        uint cell = s % 64u;
        if (OVERLAPS && (s >= last))
        {
            _351 = _230.n + i;
        }
        else
        {
            _351 = i;
        }
        uint at = _351;
        uint param_12 = VALUES;
        ulong param_13 = page + ulong(_230.key_bytes);
        uint param_14 = (cell * _230.width) + at;
        float score = load_number(param_12, param_13, param_14);
        score += _230.ape->v[((s % RATIO) * _230.width) + at];
        float before = top;
        top = fast::max(top, score);
        float kept = exp(before - top);
        float weight = exp(score - top);
        total = (total * kept) + weight;
        uint param_15 = KEYS;
        ulong param_16 = page;
        uint param_17 = (at * 64u) + cell;
        value = (value * kept) + (weight * load_number(param_15, param_16, param_17));
    }
    _230.y->v[(row * _230.ldy) + i] = value / total;
}

