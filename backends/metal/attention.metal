// Made by backends/_metal_shaders.py of vulkan/attention.comp: change that file.
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
#ifndef SPIRV_CROSS_CONSTANT_ID_3
#define SPIRV_CROSS_CONSTANT_ID_3 64u
#endif
constant uint SUMS = SPIRV_CROSS_CONSTANT_ID_3;
constant uint ROOM = (DK + SUMS);
#ifndef SPIRV_CROSS_CONSTANT_ID_0
#define SPIRV_CROSS_CONSTANT_ID_0 0u
#endif
constant uint KEYS = SPIRV_CROSS_CONSTANT_ID_0;

struct Arguments
{
    device Run* run;
    device F32* q;
    device F32* y;
    ulong pages;
    ulong values;
    device F32* sinks;
    device F32* terms;
    uint ldq;
    uint ldy;
    uint heads_per_key;
    uint head_bytes;
    uint key_bytes;
    uint page_bytes;
    uint caches;
    uint window;
    float scale;
    float cap;
    uint ldk;
    uint ldv;
};

#ifndef SPIRV_CROSS_CONSTANT_ID_6
#define SPIRV_CROSS_CONSTANT_ID_6 false
#endif
constant bool CROSS = SPIRV_CROSS_CONSTANT_ID_6;
constant bool _1051 = (!CROSS);
#ifndef SPIRV_CROSS_CONSTANT_ID_4
#define SPIRV_CROSS_CONSTANT_ID_4 true
#endif
constant bool CAUSAL = SPIRV_CROSS_CONSTANT_ID_4;
#ifndef SPIRV_CROSS_CONSTANT_ID_5
#define SPIRV_CROSS_CONSTANT_ID_5 false
#endif
constant bool CHUNKED = SPIRV_CROSS_CONSTANT_ID_5;
#ifndef SPIRV_CROSS_CONSTANT_ID_7
#define SPIRV_CROSS_CONSTANT_ID_7 false
#endif
constant bool ALONE = SPIRV_CROSS_CONSTANT_ID_7;
#ifndef SPIRV_CROSS_CONSTANT_ID_8
#define SPIRV_CROSS_CONSTANT_ID_8 false
#endif
constant bool SINKS = SPIRV_CROSS_CONSTANT_ID_8;
constant int _1162 = int(SINKS);
constant bool _1205 = (!ALONE);
#ifndef SPIRV_CROSS_CONSTANT_ID_9
#define SPIRV_CROSS_CONSTANT_ID_9 false
#endif
constant bool SLOPES = SPIRV_CROSS_CONSTANT_ID_9;
#ifndef SPIRV_CROSS_CONSTANT_ID_10
#define SPIRV_CROSS_CONSTANT_ID_10 0u
#endif
constant uint REACH = SPIRV_CROSS_CONSTANT_ID_10;
constant bool _1334 = (REACH > 0u);
constant int _1338 = int(REACH + 0u);
constant int _1339 = (_1338 / 2);
#ifndef SPIRV_CROSS_CONSTANT_ID_1
#define SPIRV_CROSS_CONSTANT_ID_1 0u
#endif
constant uint VALUES = SPIRV_CROSS_CONSTANT_ID_1;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(64u, 1u, 1u);

constant spvUnsafeArray<float, 16> _457 = spvUnsafeArray<float, 16>({ -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0 });

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
        bool _593 = (size > 0u) && (size < largest);
        bool _601;
        if (_593)
        {
            _601 = (width % (2u * size)) == 0u;
        }
        else
        {
            _601 = _593;
        }
        if (_601)
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
    uint _610;
    if (has_blocks(param))
    {
        uint param_1 = width;
        uint param_2 = 1024u;
        _610 = hadamard(param_1, param_2);
    }
    else
    {
        _610 = 0u;
    }
    return _610;
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
    int _281;
    if (has_blocks(param))
    {
        _281 = 1;
    }
    else
    {
        _281 = (type == 0u) ? 4 : 2;
    }
    return uint(_281);
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
        return _457[code];
    }
    uint param_1 = type;
    if (has_fifths(param_1))
    {
        uint param_2 = type;
        code |= (((uint(bytes->v[(fifths_at(param_2) + (i / 8u)) * _step]) >> (i % 8u)) & 1u) << uint(4));
    }
    uint param_3 = type;
    float _491;
    if (has_low(param_3))
    {
        _491 = float(code);
    }
    else
    {
        uint param_4 = type;
        _491 = float(int(code) - (has_fifths(param_4) ? 16 : 8));
    }
    return _491;
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
    float _911;
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
            _911 = half_at(param_7, param_8);
        }
        else
        {
            _911 = 0.0;
        }
        float low = _911;
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
float tanh_(thread const float& x)
{
    if (abs(x) < 0.0500000007450580596923828125)
    {
        return x * (1.0 - ((x * x) * (0.3333333432674407958984375 - ((x * x) * 0.13333334028720855712890625))));
    }
    return 1.0 - (2.0 / (exp(2.0 * fast::min(x, 40.0)) + 1.0));
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
uint row_bytes(thread const uint& type, thread const uint& n)
{
    uint param = type;
    uint _296;
    if (has_blocks(param))
    {
        uint param_1 = type;
        _296 = (n / 32u) * block_bytes(param_1);
    }
    else
    {
        uint param_2 = type;
        _296 = n * item_bytes(param_2);
    }
    return _296;
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
    float _556;
    if (has_low(param_11))
    {
        ulong param_12 = block + ulong(2u * _step);
        uint param_13 = _step;
        _556 = x + half_at(param_12, param_13);
    }
    else
    {
        _556 = x;
    }
    return _556;
}

static inline __attribute__((always_inline))
uint hadamard_of_values(thread const uint& type, thread const uint& width)
{
    uint param = type;
    uint _625;
    if (has_blocks(param))
    {
        uint param_1 = width;
        uint param_2 = 64u;
        _625 = hadamard(param_1, param_2);
    }
    else
    {
        _625 = 0u;
    }
    return _625;
}

kernel void main0(constant Arguments& _973 [[buffer(0)]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]], uint3 gl_NumWorkGroups [[threadgroups_per_grid]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    threadgroup float lanes[64];
    threadgroup float numbers[ROOM];
    threadgroup float weights[64];
    uint lane = gl_LocalInvocationID.x;
    uint row = gl_WorkGroupID.y;
    uint head = group_of_row(gl_WorkGroupID, gl_NumWorkGroups);
    if (row >= _973.run->n_tokens)
    {
        return;
    }
    uint group = head / _973.heads_per_key;
    device Run* param = _973.run;
    uint param_1 = row;
    uint segment = segment_of(param, param_1);
    device Run* param_2 = _973.run;
    uint param_3 = segment;
    uint param_4 = 0u;
    int first_row = word_of(param_2, param_3, param_4);
    device Run* param_5 = _973.run;
    uint param_6 = segment;
    uint param_7 = 2u;
    int start = word_of(param_5, param_6, param_7);
    int _1015;
    if (CROSS)
    {
        device Run* param_8 = _973.run;
        uint param_9 = segment;
        uint param_10 = 3u;
        _1015 = word_of(param_8, param_9, param_10);
    }
    else
    {
        int _1026 = start;
        device Run* param_11 = _973.run;
        uint param_12 = segment;
        uint param_13 = 1u;
        _1015 = _1026 + word_of(param_11, param_12, param_13);
    }
    int end = _1015;
    int position = (start + int(row)) - first_row;
    int near = int(_973.window);
    int lo = 0;
    int hi = end;
    if (_1051)
    {
        if (CAUSAL)
        {
            hi = position + 1;
        }
        else
        {
            if (near > 0)
            {
                hi = min(end, ((position + (near / 2)) + 1));
            }
        }
        if ((near > 0) && CHUNKED)
        {
            lo = position - (position % near);
        }
        else
        {
            if (near > 0)
            {
                int _1088;
                if (CAUSAL)
                {
                    _1088 = near - 1;
                }
                else
                {
                    _1088 = near / 2;
                }
                lo = max(0, (position - _1088));
            }
        }
        if (ALONE)
        {
            lo = max(lo, start);
        }
    }
    for (uint i = lane; i < DK; i += 64u)
    {
        numbers[i] = _973.q->v[((row * _973.ldq) + (head * DK)) + i];
    }
    for (uint i_1 = lane; i_1 < SUMS; i_1 += 64u)
    {
        numbers[DK + i_1] = 0.0;
    }
    float _1149;
    if (SINKS)
    {
        _1149 = _973.sinks->v[head];
    }
    else
    {
        _1149 = -1000000015047466219876688855040.0;
    }
    float top = _1149;
    float total = float(_1162);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    uint _1164;
    if (ALONE)
    {
        _1164 = 0u;
    }
    else
    {
        uint param_14 = KEYS;
        uint param_15 = DK;
        _1164 = hadamard_of_keys(param_14, param_15);
    }
    uint param_16 = 0u;
    uint param_17 = DK;
    uint param_18 = _1164;
    rotate(param_16, param_17, param_18, gl_LocalInvocationID, numbers);
    int _1178 = lo / 64;
    float _1375;
    float _1428;
    for (int block = _1178; (block * 64) < hi; block++)
    {
        int key = (block * 64) + int(lane);
        bool seen = (key >= lo) && (key < hi);
        ulong page = 0ul;
        if (_1205)
        {
            int _1216 = block;
            device Run* param_19 = _973.run;
            uint param_20 = segment;
            uint param_21 = _973.caches & 65535u;
            uint param_22 = _973.caches >> uint(16);
            uint param_23 = uint(_1216);
            ulong param_24 = _973.pages;
            uint param_25 = _973.page_bytes;
            page = page_of(param_19, param_20, param_21, param_22, param_23, param_24, param_25) + ulong(group * _973.head_bytes);
        }
        float score = 0.0;
        if (seen)
        {
            if (ALONE)
            {
                uint from = (uint((first_row + key) - start) * _973.ldk) + (group * DK);
                for (uint i_2 = 0u; i_2 < DK; i_2++)
                {
                    score = spvFAdd(score, spvFMul(numbers[i_2], (reinterpret_cast<device F32*>(_973.pages))->v[from + i_2]));
                }
            }
            else
            {
                uint param_26 = KEYS;
                ulong param_27 = page + ulong(lane * item_bytes(param_26));
                float _1295 = score_of(param_27, numbers);
                score = _1295;
            }
            score = spvFMul(score, _973.scale);
            if (_973.cap > 0.0)
            {
                float param_28 = score / _973.cap;
                score = spvFMul(_973.cap, tanh_(param_28));
            }
            if (SLOPES)
            {
                score = spvFSub(score, spvFMul(_973.terms->v[head], float(abs(position - key))));
            }
            if (_1334)
            {
                int reach = _1339;
                score = spvFAdd(score, _973.terms->v[(head * REACH) + uint(clamp(key - position, -reach, reach) + reach)]);
            }
        }
        float before = top;
        float param_29 = seen ? score : (-1000000015047466219876688855040.0);
        float _1366 = max64(param_29, gl_LocalInvocationID, lanes);
        top = fast::max(top, _1366);
        float kept = exp(spvFSub(before, top));
        if (seen)
        {
            _1375 = exp(spvFSub(score, top));
        }
        else
        {
            _1375 = 0.0;
        }
        float weight = _1375;
        weights[lane] = weight;
        float param_30 = weight;
        float _1393 = sum64(param_30, gl_LocalInvocationID, lanes);
        total = (total * kept) + _1393;
        int from_1 = max((lo - (block * 64)), 0);
        int until = min((hi - (block * 64)), 64);
        for (uint i_3 = lane; i_3 < SUMS; i_3 += 64u)
        {
            float part = 0.0;
            for (int j = from_1; j < until; j++)
            {
                if (ALONE)
                {
                    _1428 = (reinterpret_cast<device F32*>(_973.values))->v[((uint(((first_row + (block * 64)) + j) - start) * _973.ldv) + (group * SUMS)) + i_3];
                }
                else
                {
                    uint param_31 = VALUES;
                    uint param_32 = SUMS;
                    uint param_33 = VALUES;
                    ulong param_34 = (page + ulong(_973.key_bytes)) + ulong(uint(j) * row_bytes(param_31, param_32));
                    uint param_35 = 1u;
                    uint param_36 = i_3;
                    _1428 = number_of(param_33, param_34, param_35, param_36);
                }
                float value = _1428;
                part = spvFAdd(part, spvFMul(weights[j], value));
            }
            numbers[DK + i_3] = spvFAdd(spvFMul(numbers[DK + i_3], kept), part);
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    uint _1501;
    if (ALONE)
    {
        _1501 = 0u;
    }
    else
    {
        uint param_37 = VALUES;
        uint param_38 = SUMS;
        _1501 = hadamard_of_values(param_37, param_38);
    }
    uint param_39 = DK;
    uint param_40 = SUMS;
    uint param_41 = _1501;
    rotate(param_39, param_40, param_41, gl_LocalInvocationID, numbers);
    float _1535;
    for (uint i_4 = lane; i_4 < SUMS; i_4 += 64u)
    {
        if (total > 0.0)
        {
            _1535 = numbers[DK + i_4] / total;
        }
        else
        {
            _1535 = 0.0;
        }
        _973.y->v[((row * _973.ldy) + (head * SUMS)) + i_4] = _1535;
    }
}

