// Made by backends/_metal_shaders.py of vulkan/keep.comp: change that file.
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
struct F32;
struct U32;
struct Segments;
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

struct Coding
{
    float scale;
    float low;
    float _inverse;
};

struct F32
{
    float v[1];
};

struct U32
{
    uint v[1];
};

struct Segments
{
    int v[1];
};

struct F16
{
    half v[1];
};

struct U16
{
    ushort v[1];
};

#ifndef SPIRV_CROSS_CONSTANT_ID_0
#define SPIRV_CROSS_CONSTANT_ID_0 0u
#endif
constant uint KEYS = SPIRV_CROSS_CONSTANT_ID_0;
constant bool _551 = (KEYS >= 3u);
constant int _553 = _551 ? 1024 : 64;
constant uint ROOM = (uint(_553) + 0u);

struct U8
{
    uchar v[1];
};

struct Arguments
{
    device Run* run;
    device F32* k;
    device F32* v;
    ulong pages;
    uint ldk;
    uint ldv;
    uint heads;
    uint dk;
    uint dv;
    uint head_bytes;
    uint key_bytes;
    uint page_bytes;
    uint cache;
    uint n_caches;
};

#ifndef SPIRV_CROSS_CONSTANT_ID_1
#define SPIRV_CROSS_CONSTANT_ID_1 0u
#endif
constant uint VALUES = SPIRV_CROSS_CONSTANT_ID_1;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(64u, 1u, 1u);

constant spvUnsafeArray<float, 16> _652 = spvUnsafeArray<float, 16>({ -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0 });

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
    int _261 = word_of(param, param_1, param_2);
    uint _262 = row;
    device Run* param_3 = run;
    uint param_4 = segment;
    uint param_5 = 0u;
    return (_261 + int(_262)) - word_of(param_3, param_4, param_5);
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
    int _330;
    if (has_blocks(param))
    {
        _330 = 1;
    }
    else
    {
        _330 = (type == 0u) ? 4 : 2;
    }
    return uint(_330);
}

static inline __attribute__((always_inline))
uint hadamard(thread const uint& width, thread const uint& largest)
{
    uint size = uint(((width % 64u) == 0u) ? 64 : 0);
    for (;;)
    {
        bool _447 = (size > 0u) && (size < largest);
        bool _455;
        if (_447)
        {
            _455 = (width % (2u * size)) == 0u;
        }
        else
        {
            _455 = _447;
        }
        if (_455)
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
    uint _464;
    if (has_blocks(param))
    {
        uint param_1 = width;
        uint param_2 = 1024u;
        _464 = hadamard(param_1, param_2);
    }
    else
    {
        _464 = 0u;
    }
    return _464;
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
bool has_fifths(thread const uint& type)
{
    return (type == 4u) || (type == 5u);
}

static inline __attribute__((always_inline))
bool has_low(thread const uint& type)
{
    return (type == 4u) || (type == 6u);
}

static inline __attribute__((always_inline))
uint nearest(thread const float& x)
{
    uint place = 0u;
    for (uint i = 0u; i < 15u; i++)
    {
        place += uint(int((_652[i] + _652[i + 1u]) < (2.0 * x)));
    }
    return place;
}

static inline __attribute__((always_inline))
uint whole(thread const float& x, thread const float& top)
{
    uint _612;
    if (x < top)
    {
        _612 = uint(fast::max(x, 0.0));
    }
    else
    {
        _612 = uint(top);
    }
    return _612;
}

static inline __attribute__((always_inline))
uint code_of(thread const uint& type, thread const Coding& coding, thread const float& x)
{
    uint param = type;
    float center = float(has_fifths(param) ? 16 : 8);
    uint param_1 = type;
    float _688;
    if (has_low(param_1))
    {
        _688 = spvFSub(x, coding.low);
    }
    else
    {
        _688 = x;
    }
    float y = spvFMul(_688, coding._inverse);
    if (type == 8u)
    {
        float param_2 = y;
        return nearest(param_2);
    }
    uint param_3 = type;
    float _713;
    if (has_low(param_3))
    {
        _713 = spvFAdd(y, 0.5);
    }
    else
    {
        _713 = spvFAdd(y, spvFAdd(center, 0.5));
    }
    float shifted = _713;
    if (type != 3u)
    {
        float param_4 = shifted;
        float param_5 = (2.0 * center) - 1.0;
        return whole(param_4, param_5);
    }
    float size = spvFAdd(abs(y), 0.4999999701976776123046875);
    float param_6 = size;
    float param_7 = 127.0;
    return whole(param_6, param_7) * uint((y < 0.0) ? (-1) : 1);
}

static inline __attribute__((always_inline))
Coding coding_of(thread const uint& type, thread const uint& first, threadgroup float (&numbers)[ROOM])
{
    float peak = numbers[first];
    float low = peak;
    float high = peak;
    uint param = type;
    float center = float(has_fifths(param) ? 16 : 8);
    uint _770 = first + 1u;
    for (uint i = _770; i < (first + 32u); i++)
    {
        float x = numbers[i];
        if (abs(x) > abs(peak))
        {
            peak = x;
        }
        if (x < low)
        {
            low = x;
        }
        if (x > high)
        {
            high = x;
        }
    }
    float scale;
    if (type == 3u)
    {
        scale = abs(peak) / 127.0;
    }
    else
    {
        if (type == 8u)
        {
            scale = peak / (-127.0);
        }
        else
        {
            uint param_1 = type;
            if (has_low(param_1))
            {
                scale = spvFSub(high, low) / spvFSub(spvFMul(2.0, center), 1.0);
            }
            else
            {
                scale = peak / (-center);
            }
        }
    }
    float _846;
    if (abs(scale) > 9.9999999109757896545014425234895e-38)
    {
        _846 = 1.0 / scale;
    }
    else
    {
        _846 = 0.0;
    }
    Coding coding = Coding{ scale, low, _846 };
    if (type != 8u)
    {
        return coding;
    }
    float _cross = 0.0;
    float square = 0.0;
    for (uint i_1 = first; i_1 < (first + 32u); i_1++)
    {
        float x_1 = numbers[i_1];
        uint param_2 = type;
        Coding param_3 = coding;
        float param_4 = x_1;
        float level0 = _652[code_of(param_2, param_3, param_4)];
        float part = spvFMul(spvFMul(x_1, x_1), level0);
        _cross = spvFAdd(_cross, spvFMul(part, x_1));
        square = spvFAdd(square, spvFMul(part, level0));
    }
    float _908;
    if (square > 0.0)
    {
        _908 = _cross / square;
    }
    else
    {
        _908 = 0.0;
    }
    coding.scale = _908;
    return coding;
}

static inline __attribute__((always_inline))
uint fifths_at(thread const uint& type)
{
    uint param = type;
    return uint(has_low(param) ? 4 : 2);
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
uint half_bits(thread const float& x)
{
    uint bits = as_type<uint>(x) & 2147483647u;
    uint _sign = (as_type<uint>(x) >> uint(16)) & 32768u;
    if (bits > 2139095040u)
    {
        return _sign | 32256u;
    }
    if (bits < 947912704u)
    {
        return _sign | (as_type<uint>(abs(x) + 0.5) - 1056964608u);
    }
    return _sign | min(((((bits - 939524096u) + 4095u) + ((bits >> uint(13)) & 1u)) >> uint(13)), 31744u);
}

static inline __attribute__((always_inline))
uint byte_of(thread const uint& type, thread const Coding& coding, thread const uint& first, thread const uint& i, threadgroup float (&numbers)[ROOM])
{
    uint param = type;
    if (i < fifths_at(param))
    {
        float _978;
        if (i < 2u)
        {
            _978 = coding.scale;
        }
        else
        {
            _978 = coding.low;
        }
        float param_1 = _978;
        return (half_bits(param_1) >> ((i % 2u) * 8u)) & 255u;
    }
    uint bits = 0u;
    uint param_2 = type;
    uint own = (first + i) - codes_at(param_2);
    uint param_3 = type;
    if (i < codes_at(param_3))
    {
        uint param_4 = type;
        own = first + ((i - fifths_at(param_4)) * 8u);
        for (uint j = 0u; j < 8u; j++)
        {
            uint param_5 = type;
            Coding param_6 = coding;
            float param_7 = numbers[own + j];
            bits |= ((code_of(param_5, param_6, param_7) >> uint(4)) << j);
        }
        return bits;
    }
    uint param_8 = type;
    Coding param_9 = coding;
    float param_10 = numbers[own];
    bits = code_of(param_8, param_9, param_10);
    if (type == 3u)
    {
        return bits & 255u;
    }
    uint param_11 = type;
    Coding param_12 = coding;
    float param_13 = numbers[own + 16u];
    return (bits & 15u) | ((code_of(param_11, param_12, param_13) & 15u) << uint(4));
}

static inline __attribute__((always_inline))
void write_blocks(thread const uint& type, device F32* const thread & x, thread const uint& from, thread const uint& unit, thread const uint& n, thread const uint& width, thread const ulong& at, thread const uint& _step, thread const uint& size, thread uint3& gl_LocalInvocationID, threadgroup float (&numbers)[ROOM], constant Arguments& v_1180)
{
    uint lane = gl_LocalInvocationID.x;
    uint start = 64u * unit;
    uint span = max(size, 64u);
    if ((start % span) != 0u)
    {
        return;
    }
    float _1113;
    for (uint i = lane; i < span; i += 64u)
    {
        if ((start + i) < n)
        {
            _1113 = x->v[(from + start) + i];
        }
        else
        {
            _1113 = 0.0;
        }
        numbers[i] = _1113;
    }
    uint param = 0u;
    uint param_1 = span;
    uint param_2 = size;
    rotate(param, param_1, param_2, gl_LocalInvocationID, numbers);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    uint i_1 = lane;
    for (;;)
    {
        bool _1144 = i_1 < span;
        bool _1152;
        if (_1144)
        {
            _1152 = (start + i_1) < n;
        }
        else
        {
            _1152 = _1144;
        }
        if (_1152)
        {
            uint first = i_1 - (i_1 % 32u);
            uint c = start + first;
            uint param_3 = type;
            uint param_4 = first;
            Coding coding = coding_of(param_3, param_4, numbers);
            uint param_5 = type;
            device U8* block = reinterpret_cast<device U8*>((at + ulong((c / width) * v_1180.head_bytes)) + ulong((((c % width) / 32u) * block_bytes(param_5)) * _step));
            uint j = i_1 % 32u;
            for (;;)
            {
                uint param_6 = type;
                uint _1212 = block_bytes(param_6);
                if (j < _1212)
                {
                    uint param_7 = type;
                    Coding param_8 = coding;
                    uint param_9 = first;
                    uint param_10 = j;
                    block->v[j * _step] = uchar(byte_of(param_7, param_8, param_9, param_10, numbers));
                    j += 32u;
                    continue;
                }
                else
                {
                    break;
                }
            }
            i_1 += 64u;
            continue;
        }
        else
        {
            break;
        }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
}

static inline __attribute__((always_inline))
void store_number(thread const uint& type, thread const ulong& base, thread const uint& i, thread const float& x)
{
    if (type == 0u)
    {
        (reinterpret_cast<device F32*>(base))->v[i] = x;
    }
    else
    {
        if (type == 1u)
        {
            (reinterpret_cast<device F16*>(base))->v[i] = half(x);
        }
        else
        {
            uint bits = as_type<uint>(x);
            bool is_nan = (bits & 2147483647u) > 2139095040u;
            uint _402;
            if (is_nan)
            {
                _402 = bits | 4194304u;
            }
            else
            {
                _402 = (bits + 32767u) + ((bits >> uint(16)) & 1u);
            }
            bits = _402;
            (reinterpret_cast<device U16*>(base))->v[i] = ushort(bits >> uint(16));
        }
    }
}

static inline __attribute__((always_inline))
void write(thread const uint& type, device F32* const thread & x, thread const uint& from, thread const uint& unit, thread const uint& n, thread const uint& width, thread const ulong& at, thread const uint& _step, thread const uint& size, thread uint3& gl_LocalInvocationID, threadgroup float (&numbers)[ROOM], constant Arguments& v_1180)
{
    uint i = (64u * unit) + gl_LocalInvocationID.x;
    uint param = type;
    if (has_blocks(param))
    {
        uint param_1 = type;
        device F32* param_2 = x;
        uint param_3 = from;
        uint param_4 = unit;
        uint param_5 = n;
        uint param_6 = width;
        ulong param_7 = at;
        uint param_8 = _step;
        uint param_9 = size;
        write_blocks(param_1, param_2, param_3, param_4, param_5, param_6, param_7, param_8, param_9, gl_LocalInvocationID, numbers, v_1180);
    }
    else
    {
        if (i < n)
        {
            uint param_10 = type;
            ulong param_11 = at + ulong((i / width) * v_1180.head_bytes);
            uint param_12 = (i % width) * _step;
            float param_13 = x->v[from + i];
            store_number(param_10, param_11, param_12, param_13);
        }
    }
}

static inline __attribute__((always_inline))
uint row_bytes(thread const uint& type, thread const uint& n)
{
    uint param = type;
    uint _345;
    if (has_blocks(param))
    {
        uint param_1 = type;
        _345 = (n / 32u) * block_bytes(param_1);
    }
    else
    {
        uint param_2 = type;
        _345 = n * item_bytes(param_2);
    }
    return _345;
}

static inline __attribute__((always_inline))
uint hadamard_of_values(thread const uint& type, thread const uint& width)
{
    uint param = type;
    uint _479;
    if (has_blocks(param))
    {
        uint param_1 = width;
        uint param_2 = 64u;
        _479 = hadamard(param_1, param_2);
    }
    else
    {
        _479 = 0u;
    }
    return _479;
}

kernel void main0(constant Arguments& v_1180 [[buffer(0)]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]], uint3 gl_NumWorkGroups [[threadgroups_per_grid]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    threadgroup float numbers[ROOM];
    uint unit = group_of_row(gl_WorkGroupID, gl_NumWorkGroups);
    uint row = gl_WorkGroupID.y;
    if (row >= v_1180.run->n_tokens)
    {
        return;
    }
    device Run* param = v_1180.run;
    uint param_1 = row;
    uint segment = segment_of(param, param_1);
    device Run* param_2 = v_1180.run;
    uint param_3 = segment;
    uint param_4 = row;
    uint position = uint(position_of(param_2, param_3, param_4));
    uint _1330 = position;
    device Run* param_5 = v_1180.run;
    uint param_6 = segment;
    uint param_7 = v_1180.n_caches;
    uint param_8 = v_1180.cache;
    uint param_9 = _1330 / 64u;
    ulong param_10 = v_1180.pages;
    uint param_11 = v_1180.page_bytes;
    ulong page = page_of(param_5, param_6, param_7, param_8, param_9, param_10, param_11);
    uint cell = position % 64u;
    uint of_keys = v_1180.heads * v_1180.dk;
    uint of_values = v_1180.heads * v_1180.dv;
    if ((64u * unit) < of_keys)
    {
        uint _1376 = row;
        ulong _1380 = page;
        uint _1381 = cell;
        uint param_12 = KEYS;
        uint _1383 = item_bytes(param_12);
        uint param_13 = KEYS;
        uint param_14 = v_1180.dk;
        uint _1391 = hadamard_of_keys(param_13, param_14);
        uint param_15 = KEYS;
        device F32* param_16 = v_1180.k;
        uint param_17 = _1376 * v_1180.ldk;
        uint param_18 = unit;
        uint param_19 = of_keys;
        uint param_20 = v_1180.dk;
        ulong param_21 = _1380 + ulong(_1381 * _1383);
        uint param_22 = 64u;
        uint param_23 = _1391;
        write(param_15, param_16, param_17, param_18, param_19, param_20, param_21, param_22, param_23, gl_LocalInvocationID, numbers, v_1180);
    }
    uint before = (((of_keys + of_values) + 63u) / 64u) - ((of_values + 63u) / 64u);
    if (unit >= before)
    {
        uint _1426 = row;
        uint _1431 = unit;
        uint _1432 = before;
        ulong _1434 = page;
        uint _1440 = cell;
        uint param_24 = VALUES;
        uint param_25 = v_1180.dv;
        uint _1445 = row_bytes(param_24, param_25);
        uint param_26 = VALUES;
        uint param_27 = v_1180.dv;
        uint _1453 = hadamard_of_values(param_26, param_27);
        uint param_28 = VALUES;
        device F32* param_29 = v_1180.v;
        uint param_30 = _1426 * v_1180.ldv;
        uint param_31 = _1431 - _1432;
        uint param_32 = of_values;
        uint param_33 = v_1180.dv;
        ulong param_34 = (_1434 + ulong(v_1180.key_bytes)) + ulong(_1440 * _1445);
        uint param_35 = 1u;
        uint param_36 = _1453;
        write(param_28, param_29, param_30, param_31, param_32, param_33, param_34, param_35, param_36, gl_LocalInvocationID, numbers, v_1180);
    }
}

