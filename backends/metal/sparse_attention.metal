// Made by backends/_metal_shaders.py of vulkan/sparse_attention.comp: change that file.
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

#ifndef SPIRV_CROSS_CONSTANT_ID_2
#define SPIRV_CROSS_CONSTANT_ID_2 64u
#endif
constant uint DK = SPIRV_CROSS_CONSTANT_ID_2;
#ifndef SPIRV_CROSS_CONSTANT_ID_4
#define SPIRV_CROSS_CONSTANT_ID_4 false
#endif
constant bool KEYS_ONLY = SPIRV_CROSS_CONSTANT_ID_4;
#ifndef SPIRV_CROSS_CONSTANT_ID_0
#define SPIRV_CROSS_CONSTANT_ID_0 0u
#endif
constant uint KEYS = SPIRV_CROSS_CONSTANT_ID_0;
constant bool _802 = (KEYS >= 3u);
constant bool _803 = (KEYS_ONLY && _802);
#ifndef SPIRV_CROSS_CONSTANT_ID_3
#define SPIRV_CROSS_CONSTANT_ID_3 64u
#endif
constant uint DV = SPIRV_CROSS_CONSTANT_ID_3;
constant uint SUMS = _803 ? DK : DV;
constant uint ROOM = (DK + SUMS);
#ifndef SPIRV_CROSS_CONSTANT_ID_1
#define SPIRV_CROSS_CONSTANT_ID_1 0u
#endif
constant uint VALUES = SPIRV_CROSS_CONSTANT_ID_1;

struct Arguments
{
    device Run* run;
    device F32* q;
    device F32* chosen;
    device F32* y;
    ulong pages;
    device F32* lists;
    device F32* sinks;
    uint ldq;
    uint ldc;
    uint ldy;
    uint n_kv_heads;
    uint heads_per_key;
    uint head_bytes;
    uint key_bytes;
    uint page_bytes;
    uint cache;
    uint n_caches;
    float scale;
};

#ifndef SPIRV_CROSS_CONSTANT_ID_5
#define SPIRV_CROSS_CONSTANT_ID_5 false
#endif
constant bool JOINT = SPIRV_CROSS_CONSTANT_ID_5;
#ifndef SPIRV_CROSS_CONSTANT_ID_6
#define SPIRV_CROSS_CONSTANT_ID_6 false
#endif
constant bool SINKS = SPIRV_CROSS_CONSTANT_ID_6;
constant int _1105 = int(SINKS);
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(64u, 1u, 1u);

constant spvUnsafeArray<float, 16> _482 = spvUnsafeArray<float, 16>({ -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0 });

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
    int _237 = word_of(param, param_1, param_2);
    uint _238 = row;
    device Run* param_3 = run;
    uint param_4 = segment;
    uint param_5 = 0u;
    return (_237 + int(_238)) - word_of(param_3, param_4, param_5);
}

static inline __attribute__((always_inline))
bool has_blocks(thread const uint& type)
{
    return type >= 3u;
}

static inline __attribute__((always_inline))
uint hadamard(thread const uint& width, thread const uint& largest)
{
    uint size = uint(((width % 64u) == 0u) ? 64 : 0);
    for (;;)
    {
        bool _618 = (size > 0u) && (size < largest);
        bool _626;
        if (_618)
        {
            _626 = (width % (2u * size)) == 0u;
        }
        else
        {
            _626 = _618;
        }
        if (_626)
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
uint hadamard_of_keys(thread const uint& type, thread const uint& width)
{
    uint param = type;
    uint _635;
    if (has_blocks(param))
    {
        uint param_1 = width;
        uint param_2 = 1024u;
        _635 = hadamard(param_1, param_2);
    }
    else
    {
        _635 = 0u;
    }
    return _635;
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
ulong page_of(device Run* const thread & run, thread const uint& segment, thread const uint& n_caches, thread const uint& cache, thread const uint& block, thread const ulong& pages, thread const uint& page_bytes)
{
    device U32* tables = reinterpret_cast<device U32*>(run->tables);
    uint entry = ((segment * n_caches) + cache) * 2u;
    uint page = tables->v[tables->v[entry] + (block % tables->v[entry + 1u])];
    return pages + (ulong(page) * ulong(page_bytes));
}

static inline __attribute__((always_inline))
uint item_bytes(thread const uint& type)
{
    uint param = type;
    int _306;
    if (has_blocks(param))
    {
        _306 = 1;
    }
    else
    {
        _306 = (type == 0u) ? 4 : 2;
    }
    return uint(_306);
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
        return _482[code];
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
uint block_bytes(thread const uint& type)
{
    uint param = type;
    return codes_at(param) + uint((type == 3u) ? 32 : 16);
}

static inline __attribute__((always_inline))
float score_of(thread ulong& key, threadgroup float (&numbers)[ROOM])
{
    float score = 0.0;
    uint param = KEYS;
    if (!has_blocks(param))
    {
        for (uint i = 0u; i < DK; i++)
        {
            uint param_1 = KEYS;
            ulong param_2 = key;
            uint param_3 = i * 64u;
            score += (numbers[i] * load_number(param_1, param_2, param_3));
        }
        return score;
    }
    float _908;
    for (uint i_1 = 0u; i_1 < DK; i_1 += 32u)
    {
        ulong param_4 = key;
        uint param_5 = 64u;
        float scale = half_at(param_4, param_5);
        uint param_6 = KEYS;
        if (has_low(param_6))
        {
            ulong param_7 = key + 128ul;
            uint param_8 = 64u;
            _908 = half_at(param_7, param_8);
        }
        else
        {
            _908 = 0.0;
        }
        float low = _908;
        for (uint j = 0u; j < 32u; j++)
        {
            uint param_9 = KEYS;
            ulong param_10 = key;
            uint param_11 = 64u;
            uint param_12 = j;
            score += (numbers[i_1 + j] * ((scale * code_at(param_9, param_10, param_11, param_12)) + low));
        }
        uint param_13 = KEYS;
        key += ulong(block_bytes(param_13) * 64u);
    }
    return score;
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

static inline __attribute__((always_inline))
float sum64(thread const float& x, thread uint3& gl_LocalInvocationID, threadgroup float (&lanes)[64])
{
    uint lane = gl_LocalInvocationID.x;
    lanes[lane] = x;
    for (uint _step = 32u; _step > 0u; _step = _step >> uint(1))
    {
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (lane < _step)
        {
            lanes[lane] += lanes[lane + _step];
        }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    float total = lanes[0];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    return total;
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
uint row_bytes(thread const uint& type, thread const uint& n)
{
    uint param = type;
    uint _321;
    if (has_blocks(param))
    {
        uint param_1 = type;
        _321 = (n / 32u) * block_bytes(param_1);
    }
    else
    {
        uint param_2 = type;
        _321 = n * item_bytes(param_2);
    }
    return _321;
}

static inline __attribute__((always_inline))
float value_of(thread const ulong& head, thread const uint& cell, thread const uint& i, constant Arguments& v_979)
{
    if (KEYS_ONLY)
    {
        uint param = KEYS;
        uint param_1 = KEYS;
        ulong param_2 = head + ulong(cell * item_bytes(param));
        uint param_3 = 64u;
        uint param_4 = i;
        return number_of(param_1, param_2, param_3, param_4);
    }
    uint param_5 = VALUES;
    uint param_6 = DV;
    uint param_7 = VALUES;
    ulong param_8 = (head + ulong(v_979.key_bytes)) + ulong(cell * row_bytes(param_5, param_6));
    uint param_9 = 1u;
    uint param_10 = i;
    return number_of(param_7, param_8, param_9, param_10);
}

static inline __attribute__((always_inline))
uint hadamard_of_values(thread const uint& type, thread const uint& width)
{
    uint param = type;
    uint _650;
    if (has_blocks(param))
    {
        uint param_1 = width;
        uint param_2 = 64u;
        _650 = hadamard(param_1, param_2);
    }
    else
    {
        _650 = 0u;
    }
    return _650;
}

kernel void main0(constant Arguments& v_979 [[buffer(0)]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]], uint3 gl_NumWorkGroups [[threadgroups_per_grid]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    threadgroup float lanes[64];
    threadgroup float numbers[ROOM];
    threadgroup float weights[64];
    threadgroup ulong heads[64];
    threadgroup uint cells[64];
    uint row = gl_WorkGroupID.y;
    uint own = group_of_row(gl_WorkGroupID, gl_NumWorkGroups);
    uint lane = gl_LocalInvocationID.x;
    if (row >= v_979.run->n_tokens)
    {
        return;
    }
    device Run* param = v_979.run;
    uint param_1 = row;
    uint segment = segment_of(param, param_1);
    uint _1028;
    if (JOINT)
    {
        _1028 = 0u;
    }
    else
    {
        _1028 = own / v_979.heads_per_key;
    }
    uint first = _1028;
    device Run* param_2 = v_979.run;
    uint param_3 = segment;
    uint param_4 = row;
    float position = float(position_of(param_2, param_3, param_4));
    for (uint i = lane; i < DK; i += 64u)
    {
        numbers[i] = v_979.q->v[((row * v_979.ldq) + (own * DK)) + i];
    }
    for (uint i_1 = lane; i_1 < SUMS; i_1 += 64u)
    {
        numbers[DK + i_1] = 0.0;
    }
    float _1092;
    if (SINKS)
    {
        _1092 = v_979.sinks->v[own];
    }
    else
    {
        _1092 = -1000000015047466219876688855040.0;
    }
    float top = _1092;
    float total = float(_1105);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    uint param_5 = KEYS;
    uint param_6 = DK;
    uint param_7 = 0u;
    uint param_8 = DK;
    uint param_9 = hadamard_of_keys(param_5, param_6);
    rotate(param_7, param_8, param_9, gl_LocalInvocationID, numbers);
    uint _1122;
    uint _1191;
    float _1265;
    uint group = first;
    for (;;)
    {
        if (JOINT)
        {
            _1122 = v_979.n_kv_heads;
        }
        else
        {
            _1122 = first + 1u;
        }
        if (group < _1122)
        {
            uint _1141 = uint(v_979.lists->v[2u * group]);
            uint end = uint(v_979.lists->v[(2u * group) + 1u]);
            for (uint start = _1141; start < end; start += 64u)
            {
                float number = -1.0;
                float score = 0.0;
                if ((start + lane) < end)
                {
                    number = v_979.chosen->v[((row * v_979.ldc) + start) + lane];
                }
                bool seen = (number >= 0.0) && (number <= position);
                if (seen)
                {
                    _1191 = uint(number);
                }
                else
                {
                    _1191 = 0u;
                }
                uint s = _1191;
                ulong head = 0ul;
                if (seen)
                {
                    uint _1204 = s;
                    device Run* param_10 = v_979.run;
                    uint param_11 = segment;
                    uint param_12 = v_979.n_caches;
                    uint param_13 = v_979.cache;
                    uint param_14 = _1204 / 64u;
                    ulong param_15 = v_979.pages;
                    uint param_16 = v_979.page_bytes;
                    head = page_of(param_10, param_11, param_12, param_13, param_14, param_15, param_16) + ulong(group * v_979.head_bytes);
                    uint param_17 = KEYS;
                    ulong param_18 = head + ulong((s % 64u) * item_bytes(param_17));
                    float _1243 = score_of(param_18, numbers);
                    score = spvFMul(_1243, v_979.scale);
                }
                float before = top;
                float param_19 = seen ? score : (-1000000015047466219876688855040.0);
                float _1256 = max64(param_19, gl_LocalInvocationID, lanes);
                top = fast::max(top, _1256);
                float kept = exp(spvFSub(before, top));
                if (seen)
                {
                    _1265 = exp(spvFSub(score, top));
                }
                else
                {
                    _1265 = 0.0;
                }
                float weight = _1265;
                weights[lane] = weight;
                heads[lane] = head;
                cells[lane] = s % 64u;
                float param_20 = weight;
                float _1298 = sum64(param_20, gl_LocalInvocationID, lanes);
                total = (total * kept) + _1298;
                for (uint i_2 = lane; i_2 < SUMS; i_2 += 64u)
                {
                    float part = 0.0;
                    for (uint j = 0u; j < 64u; j++)
                    {
                        if (heads[j] != 0ul)
                        {
                            ulong param_21 = heads[j];
                            uint param_22 = cells[j];
                            uint param_23 = i_2;
                            part = spvFAdd(part, spvFMul(weights[j], value_of(param_21, param_22, param_23, v_979)));
                        }
                    }
                    numbers[DK + i_2] = spvFAdd(spvFMul(numbers[DK + i_2], kept), part);
                }
                threadgroup_barrier(mem_flags::mem_threadgroup);
            }
            group++;
            continue;
        }
        else
        {
            break;
        }
    }
    uint _1360;
    if (KEYS_ONLY)
    {
        uint param_24 = KEYS;
        uint param_25 = DK;
        _1360 = hadamard_of_keys(param_24, param_25);
    }
    else
    {
        uint param_26 = VALUES;
        uint param_27 = DV;
        _1360 = hadamard_of_values(param_26, param_27);
    }
    uint param_28 = DK;
    uint param_29 = SUMS;
    uint param_30 = _1360;
    rotate(param_28, param_29, param_30, gl_LocalInvocationID, numbers);
    float _1398;
    for (uint i_3 = lane; i_3 < DV; i_3 += 64u)
    {
        if (total > 0.0)
        {
            _1398 = numbers[DK + i_3] / total;
        }
        else
        {
            _1398 = 0.0;
        }
        v_979.y->v[((row * v_979.ldy) + (own * DV)) + i_3] = _1398;
    }
}

