// Made by backends/_metal_shaders.py of vulkan/index_block_scores.comp: change that file.
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
    device F32* q;
    ulong pages;
    device F32* y;
    uint ldq;
    uint ldy;
    uint n_blocks;
    uint top_k;
    uint page_bytes;
    uint cache;
    uint n_caches;
};

#ifndef SPIRV_CROSS_CONSTANT_ID_2
#define SPIRV_CROSS_CONSTANT_ID_2 64u
#endif
constant uint BLOCK = SPIRV_CROSS_CONSTANT_ID_2;
#ifndef SPIRV_CROSS_CONSTANT_ID_1
#define SPIRV_CROSS_CONSTANT_ID_1 64u
#endif
constant uint DK = SPIRV_CROSS_CONSTANT_ID_1;
#ifndef SPIRV_CROSS_CONSTANT_ID_0
#define SPIRV_CROSS_CONSTANT_ID_0 0u
#endif
constant uint KEYS = SPIRV_CROSS_CONSTANT_ID_0;
#ifndef SPIRV_CROSS_CONSTANT_ID_3
#define SPIRV_CROSS_CONSTANT_ID_3 1u
#endif
constant uint LOCAL = SPIRV_CROSS_CONSTANT_ID_3;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(64u, 1u, 1u);

constant spvUnsafeArray<float, 16> _471 = spvUnsafeArray<float, 16>({ -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0 });

static inline __attribute__((always_inline))
uint group_of_row(thread uint3& gl_WorkGroupID, thread uint3& gl_NumWorkGroups)
{
    return gl_WorkGroupID.x + (gl_WorkGroupID.z * gl_NumWorkGroups.x);
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
    int _157 = word_of(param, param_1, param_2);
    uint _158 = row;
    device Run* param_3 = run;
    uint param_4 = segment;
    uint param_5 = 0u;
    return (_157 + int(_158)) - word_of(param_3, param_4, param_5);
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

static inline __attribute__((always_inline))
float max64(thread const float& x, thread uint3& gl_LocalInvocationID, threadgroup float (&lanes)[64])
{
    uint lane = gl_LocalInvocationID.x;
    lanes[lane] = x;
    for (uint _step = 32u; _step > 0u; _step = _step >> uint(1))
    {
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (lane < _step)
        {
            lanes[lane] = fast::max(lanes[lane], lanes[lane + _step]);
        }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    float top = lanes[0];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    return top;
}

kernel void main0(constant Arguments& _273 [[buffer(0)]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]], uint3 gl_NumWorkGroups [[threadgroups_per_grid]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    threadgroup float lanes[64];
    uint row = gl_WorkGroupID.y;
    uint lane = gl_LocalInvocationID.x;
    if (row >= _273.run->n_tokens)
    {
        return;
    }
    uint head = group_of_row(gl_WorkGroupID, gl_NumWorkGroups) / _273.n_blocks;
    uint own = group_of_row(gl_WorkGroupID, gl_NumWorkGroups) % _273.n_blocks;
    device Run* param = _273.run;
    uint param_1 = row;
    uint segment = segment_of(param, param_1);
    device Run* param_2 = _273.run;
    uint param_3 = segment;
    uint param_4 = row;
    uint position = uint(position_of(param_2, param_3, param_4));
    uint last = position / BLOCK;
    uint from = (row * _273.ldq) + (head * DK);
    bool _327 = own > last;
    bool _336;
    if (!_327)
    {
        _336 = last < _273.top_k;
    }
    else
    {
        _336 = _327;
    }
    if (_336)
    {
        return;
    }
    float best = -3.4028234663852885981170418348452e+38;
    uint _346 = (own * BLOCK) + lane;
    for (uint s = _346; s < min(((own + 1u) * BLOCK), (position + 1u)); s += 64u)
    {
        uint _363 = s;
        device Run* param_5 = _273.run;
        uint param_6 = segment;
        uint param_7 = _273.n_caches;
        uint param_8 = _273.cache;
        uint param_9 = _363 / 64u;
        ulong param_10 = _273.pages;
        uint param_11 = _273.page_bytes;
        ulong page = page_of(param_5, param_6, param_7, param_8, param_9, param_10, param_11);
        float product = 0.0;
        for (uint i = 0u; i < DK; i++)
        {
            uint param_12 = KEYS;
            ulong param_13 = page;
            uint param_14 = (i * 64u) + (s % 64u);
            product += (_273.q->v[from + i] * load_number(param_12, param_13, param_14));
        }
        best = fast::max(best, product);
    }
    float param_15 = best;
    float _427 = max64(param_15, gl_LocalInvocationID, lanes);
    best = _427;
    if (lane == 0u)
    {
        _273.y->v[(row * _273.ldy) + group_of_row(gl_WorkGroupID, gl_NumWorkGroups)] = ((own + LOCAL) > last) ? 3.4028234663852885981170418348452e+38 : best;
    }
}

