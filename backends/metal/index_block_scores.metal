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
struct U8;

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

struct U8
{
    uchar v[1];
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

constant spvUnsafeArray<float, 16> _422 = spvUnsafeArray<float, 16>({ -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0 });

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
    int _199 = word_of(param, param_1, param_2);
    uint _200 = row;
    device Run* param_3 = run;
    uint param_4 = segment;
    uint param_5 = 0u;
    return (_199 + int(_200)) - word_of(param_3, param_4, param_5);
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
bool has_blocks(thread const uint& type)
{
    return type >= 3u;
}

static inline __attribute__((always_inline))
uint item_bytes(thread const uint& type)
{
    uint param = type;
    int _268;
    if (has_blocks(param))
    {
        _268 = 1;
    }
    else
    {
        _268 = (type == 0u) ? 4 : 2;
    }
    return uint(_268);
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
bool has_low(thread const uint& type)
{
    return (type == 4u) || (type == 6u);
}

static inline __attribute__((always_inline))
uint fifths_at(thread const uint& type)
{
    uint param = type;
    return uint(has_low(param) ? 4 : 2);
}

static inline __attribute__((always_inline))
bool has_fifths(thread const uint& type)
{
    return (type == 4u) || (type == 5u);
}

static inline __attribute__((always_inline))
uint codes_at(thread const uint& type)
{
    uint param = type;
    uint param_1 = type;
    return fifths_at(param) + uint(has_fifths(param_1) ? 4 : 0);
}

static inline __attribute__((always_inline))
uint block_bytes(thread const uint& type)
{
    uint param = type;
    return codes_at(param) + uint((type == 3u) ? 32 : 16);
}

static inline __attribute__((always_inline))
float half_at(thread const ulong& at, thread const uint& _step)
{
    if (_step == 1u)
    {
        return float((reinterpret_cast<device F16*>(at))->v[0]);
    }
    return float2(as_type<half2>(uint((reinterpret_cast<device U8*>(at))->v[0]) | (uint((reinterpret_cast<device U8*>(at))->v[_step]) << uint(8)))).x;
}

static inline __attribute__((always_inline))
float code_at(thread const uint& type, thread const ulong& block, thread const uint& _step, thread const uint& i)
{
    device U8* bytes = reinterpret_cast<device U8*>(block);
    if (type == 3u)
    {
        return float(int(uint(bytes->v[(2u + i) * _step]) << uint(24)) >> 24);
    }
    uint param = type;
    uint code = (uint(bytes->v[(codes_at(param) + (i % 16u)) * _step]) >> ((i / 16u) * 4u)) & 15u;
    if (type == 8u)
    {
        return _422[code];
    }
    uint param_1 = type;
    if (has_fifths(param_1))
    {
        uint param_2 = type;
        code |= (((uint(bytes->v[(fifths_at(param_2) + (i / 8u)) * _step]) >> (i % 8u)) & 1u) << uint(4));
    }
    uint param_3 = type;
    float _456;
    if (has_low(param_3))
    {
        _456 = float(code);
    }
    else
    {
        uint param_4 = type;
        _456 = float(int(code) - (has_fifths(param_4) ? 16 : 8));
    }
    return _456;
}

static inline __attribute__((always_inline))
float number_of(thread const uint& type, thread const ulong& row, thread const uint& _step, thread const uint& i)
{
    uint param = type;
    if (!has_blocks(param))
    {
        uint param_1 = type;
        ulong param_2 = row;
        uint param_3 = i * _step;
        return load_number(param_1, param_2, param_3);
    }
    uint param_4 = type;
    ulong block = row + ulong(((i / 32u) * block_bytes(param_4)) * _step);
    ulong param_5 = block;
    uint param_6 = _step;
    uint param_7 = type;
    ulong param_8 = block;
    uint param_9 = _step;
    uint param_10 = i % 32u;
    float x = half_at(param_5, param_6) * code_at(param_7, param_8, param_9, param_10);
    uint param_11 = type;
    float _522;
    if (has_low(param_11))
    {
        ulong param_12 = block + ulong(2u * _step);
        uint param_13 = _step;
        _522 = x + half_at(param_12, param_13);
    }
    else
    {
        _522 = x;
    }
    return _522;
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

kernel void main0(constant Arguments& _595 [[buffer(0)]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]], uint3 gl_NumWorkGroups [[threadgroups_per_grid]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    threadgroup float lanes[64];
    uint row = gl_WorkGroupID.y;
    uint lane = gl_LocalInvocationID.x;
    if (row >= _595.run->n_tokens)
    {
        return;
    }
    uint head = group_of_row(gl_WorkGroupID, gl_NumWorkGroups) / _595.n_blocks;
    uint own = group_of_row(gl_WorkGroupID, gl_NumWorkGroups) % _595.n_blocks;
    device Run* param = _595.run;
    uint param_1 = row;
    uint segment = segment_of(param, param_1);
    device Run* param_2 = _595.run;
    uint param_3 = segment;
    uint param_4 = row;
    uint position = uint(position_of(param_2, param_3, param_4));
    uint last = position / BLOCK;
    uint from = (row * _595.ldq) + (head * DK);
    bool _649 = own > last;
    bool _658;
    if (!_649)
    {
        _658 = last < _595.top_k;
    }
    else
    {
        _658 = _649;
    }
    if (_658)
    {
        return;
    }
    float best = -3.4028234663852885981170418348452e+38;
    uint _668 = (own * BLOCK) + lane;
    for (uint s = _668; s < min(((own + 1u) * BLOCK), (position + 1u)); s += 64u)
    {
        uint _685 = s;
        device Run* param_5 = _595.run;
        uint param_6 = segment;
        uint param_7 = _595.n_caches;
        uint param_8 = _595.cache;
        uint param_9 = _685 / 64u;
        ulong param_10 = _595.pages;
        uint param_11 = _595.page_bytes;
        ulong page = page_of(param_5, param_6, param_7, param_8, param_9, param_10, param_11);
        uint param_12 = KEYS;
        ulong key = page + ulong((s % 64u) * item_bytes(param_12));
        float product = 0.0;
        for (uint i = 0u; i < DK; i++)
        {
            uint param_13 = KEYS;
            ulong param_14 = key;
            uint param_15 = 64u;
            uint param_16 = i;
            product += (_595.q->v[from + i] * number_of(param_13, param_14, param_15, param_16));
        }
        best = fast::max(best, product);
    }
    float param_17 = best;
    float _754 = max64(param_17, gl_LocalInvocationID, lanes);
    best = _754;
    if (lane == 0u)
    {
        _595.y->v[(row * _595.ldy) + group_of_row(gl_WorkGroupID, gl_NumWorkGroups)] = ((own + LOCAL) > last) ? 3.4028234663852885981170418348452e+38 : best;
    }
}

