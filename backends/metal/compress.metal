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

template<typename T>
[[clang::optnone]] T spvFMul(T l, T r)
{
    return fma(l, r, T(0));
}

template<typename T>
[[clang::optnone]] T spvFAdd(T l, T r)
{
    return fma(T(1), l, r);
}

template<typename T>
[[clang::optnone]] T spvFSub(T l, T r)
{
    return fma(T(-1), r, l);
}

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

#ifndef SPIRV_CROSS_CONSTANT_ID_0
#define SPIRV_CROSS_CONSTANT_ID_0 0u
#endif
constant uint KEYS = SPIRV_CROSS_CONSTANT_ID_0;
constant bool _719 = (KEYS >= 3u);
#ifndef SPIRV_CROSS_CONSTANT_ID_1
#define SPIRV_CROSS_CONSTANT_ID_1 0u
#endif
constant uint VALUES = SPIRV_CROSS_CONSTANT_ID_1;
constant bool _721 = (VALUES >= 3u);
constant bool _722 = (_719 || _721);
#ifndef SPIRV_CROSS_CONSTANT_ID_4
#define SPIRV_CROSS_CONSTANT_ID_4 64u
#endif
constant uint WIDTH = SPIRV_CROSS_CONSTANT_ID_4;
constant uint ROOM = _722 ? WIDTH : 1u;

struct Arguments
{
    device Run* run;
    ulong pages;
    device F32* ape;
    device F32* y;
    uint ldy;
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
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(64u, 1u, 1u);

constant spvUnsafeArray<float, 16> _481 = spvUnsafeArray<float, 16>({ -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0 });

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
    int _236 = word_of(param, param_1, param_2);
    uint _237 = row;
    device Run* param_3 = run;
    uint param_4 = segment;
    uint param_5 = 0u;
    return (_236 + int(_237)) - word_of(param_3, param_4, param_5);
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
uint item_bytes(thread const uint& type)
{
    uint param = type;
    int _305;
    if (has_blocks(param))
    {
        _305 = 1;
    }
    else
    {
        _305 = (type == 0u) ? 4 : 2;
    }
    return uint(_305);
}

static inline __attribute__((always_inline))
uint row_bytes(thread const uint& type, thread const uint& n)
{
    uint param = type;
    uint _320;
    if (has_blocks(param))
    {
        uint param_1 = type;
        _320 = (n / 32u) * block_bytes(param_1);
    }
    else
    {
        uint param_2 = type;
        _320 = n * item_bytes(param_2);
    }
    return _320;
}

static inline __attribute__((always_inline))
uint hadamard(thread const uint& width, thread const uint& largest)
{
    uint size = uint(((width % 64u) == 0u) ? 64 : 0);
    for (;;)
    {
        bool _617 = (size > 0u) && (size < largest);
        bool _625;
        if (_617)
        {
            _625 = (width % (2u * size)) == 0u;
        }
        else
        {
            _625 = _617;
        }
        if (_625)
        {
            size *= 2u;
            continue;
        }
        else
        {
            break;
        }
    }
    return size;
}

static inline __attribute__((always_inline))
uint hadamard_of_values(thread const uint& type, thread const uint& width)
{
    uint param = type;
    uint _649;
    if (has_blocks(param))
    {
        uint param_1 = width;
        uint param_2 = 64u;
        _649 = hadamard(param_1, param_2);
    }
    else
    {
        _649 = 0u;
    }
    return _649;
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
        return _481[code];
    }
    uint param_1 = type;
    if (has_fifths(param_1))
    {
        uint param_2 = type;
        code |= (((uint(bytes->v[(fifths_at(param_2) + (i / 8u)) * _step]) >> (i % 8u)) & 1u) << uint(4));
    }
    uint param_3 = type;
    float _516;
    if (has_low(param_3))
    {
        _516 = float(code);
    }
    else
    {
        uint param_4 = type;
        _516 = float(int(code) - (has_fifths(param_4) ? 16 : 8));
    }
    return _516;
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
    float _581;
    if (has_low(param_11))
    {
        ulong param_12 = block + ulong(2u * _step);
        uint param_13 = _step;
        _581 = x + half_at(param_12, param_13);
    }
    else
    {
        _581 = x;
    }
    return _581;
}

static inline __attribute__((always_inline))
void rotate(thread const uint& first, thread const uint& width, thread const uint& size, thread uint3& gl_LocalInvocationID, threadgroup float (&numbers)[ROOM])
{
    if (size == 0u)
    {
        return;
    }
    uint lane = gl_LocalInvocationID.x;
    float factor = 1.0;
    for (uint left = size; left > 1u; left = left >> uint(2))
    {
        factor = spvFMul(factor, (left == 2u) ? 0.707106769084930419921875 : 0.5);
    }
    for (uint _step = 1u; _step < size; _step *= 2u)
    {
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint i = lane; i < (width / 2u); i += 64u)
        {
            uint at = (first + (2u * i)) - (i % _step);
            float a = numbers[at];
            float b = numbers[at + _step];
            numbers[at] = spvFAdd(a, b);
            numbers[at + _step] = spvFSub(a, b);
        }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint i_1 = lane; i_1 < width; i_1 += 64u)
    {
        float x = spvFMul(numbers[first + i_1], factor);
        numbers[first + i_1] = x;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
}

static inline __attribute__((always_inline))
float turned(thread const uint& type, thread const ulong& row, thread const uint& _step, thread const uint& size, thread const uint& i, thread uint3& gl_LocalInvocationID, threadgroup float (&numbers)[ROOM])
{
    if (size == 0u)
    {
        uint param = type;
        ulong param_1 = row;
        uint param_2 = _step;
        uint param_3 = i;
        return number_of(param, param_1, param_2, param_3);
    }
    for (uint j = gl_LocalInvocationID.x; j < WIDTH; j += 64u)
    {
        uint param_4 = type;
        ulong param_5 = row;
        uint param_6 = _step;
        uint param_7 = j;
        numbers[j] = number_of(param_4, param_5, param_6, param_7);
    }
    uint param_8 = 0u;
    uint param_9 = WIDTH;
    uint param_10 = size;
    rotate(param_8, param_9, param_10, gl_LocalInvocationID, numbers);
    float x = numbers[i];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    return x;
}

static inline __attribute__((always_inline))
uint hadamard_of_keys(thread const uint& type, thread const uint& width)
{
    uint param = type;
    uint _634;
    if (has_blocks(param))
    {
        uint param_1 = width;
        uint param_2 = 1024u;
        _634 = hadamard(param_1, param_2);
    }
    else
    {
        _634 = 0u;
    }
    return _634;
}

kernel void main0(constant Arguments& _837 [[buffer(0)]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]], uint3 gl_NumWorkGroups [[threadgroups_per_grid]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    threadgroup float numbers[ROOM];
    uint i = column(gl_WorkGroupID, gl_NumWorkGroups, gl_LocalInvocationID);
    uint row = gl_WorkGroupID.y;
    uint own = min(i, (_837.n - 1u));
    if (row >= _837.run->n_tokens)
    {
        return;
    }
    device Run* param = _837.run;
    uint param_1 = row;
    uint segment = segment_of(param, param_1);
    device Run* param_2 = _837.run;
    uint param_3 = segment;
    uint param_4 = row;
    uint end = uint(position_of(param_2, param_3, param_4)) + 1u;
    float top = -1000000015047466219876688855040.0;
    float total = 0.0;
    float value = 0.0;
    uint last = end - RATIO;
    uint _883;
    if (OVERLAPS)
    {
        _883 = last - min(last, RATIO);
    }
    else
    {
        _883 = last;
    }
    uint first = _883;
    if ((end % RATIO) != 0u)
    {
        first = end;
    }
    uint _942;
    for (uint s = first; s < end; s++)
    {
        uint _911 = s;
        device Run* param_5 = _837.run;
        uint param_6 = segment;
        uint param_7 = _837.n_caches;
        uint param_8 = _837.cache;
        uint param_9 = _911 / 64u;
        ulong param_10 = _837.pages;
        uint param_11 = _837.page_bytes;
        ulong page = page_of(param_5, param_6, param_7, param_8, param_9, param_10, param_11);
        uint cell = s % 64u;
        if (OVERLAPS && (s >= last))
        {
            _942 = _837.n + own;
        }
        else
        {
            _942 = own;
        }
        uint at = _942;
        uint param_12 = VALUES;
        uint param_13 = WIDTH;
        uint param_14 = VALUES;
        uint param_15 = WIDTH;
        uint param_16 = VALUES;
        ulong param_17 = (page + ulong(_837.key_bytes)) + ulong(cell * row_bytes(param_12, param_13));
        uint param_18 = 1u;
        uint param_19 = hadamard_of_values(param_14, param_15);
        uint param_20 = at;
        float _975 = turned(param_16, param_17, param_18, param_19, param_20, gl_LocalInvocationID, numbers);
        float score = _975;
        score += _837.ape->v[((s % RATIO) * WIDTH) + at];
        float before = top;
        top = fast::max(top, score);
        float kept = exp(before - top);
        float weight = exp(score - top);
        total = (total * kept) + weight;
        uint param_21 = KEYS;
        uint param_22 = KEYS;
        uint param_23 = WIDTH;
        uint param_24 = KEYS;
        ulong param_25 = page + ulong(cell * item_bytes(param_21));
        uint param_26 = 64u;
        uint param_27 = hadamard_of_keys(param_22, param_23);
        uint param_28 = at;
        float _1028 = turned(param_24, param_25, param_26, param_27, param_28, gl_LocalInvocationID, numbers);
        value = (value * kept) + (weight * _1028);
    }
    if (i < _837.n)
    {
        float _1050;
        if (first < end)
        {
            _1050 = value / total;
        }
        else
        {
            _1050 = 0.0;
        }
        _837.y->v[(row * _837.ldy) + i] = _1050;
    }
}

