// Made by backends/_metal_shaders.py of vulkan/ngram_embed.comp: change that file.
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
struct U16;
struct F16;
struct I32;
struct I64;
struct F32;

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
    device Run* run;
    device I32* tokens;
    ulong w;
    device I64* hashes;
    ulong states;
    device F32* y;
    uint ldy;
    uint width;
    uint row_bytes;
    uint spans;
    uint end;
    uint slot_bytes;
};

struct I32
{
    int v[1];
};

struct I64
{
    long v[1];
};

struct F32
{
    float v[1];
};

#ifndef SPIRV_CROSS_CONSTANT_ID_1
#define SPIRV_CROSS_CONSTANT_ID_1 1u
#endif
constant uint HASHES = SPIRV_CROSS_CONSTANT_ID_1;
#ifndef SPIRV_CROSS_CONSTANT_ID_0
#define SPIRV_CROSS_CONSTANT_ID_0 2u
#endif
constant uint LONGEST = SPIRV_CROSS_CONSTANT_ID_0;
constant uint _349 = (LONGEST - 1u);
constant uint _350 = (HASHES / _349);
constant uint _419 = (LONGEST + HASHES);
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(64u, 1u, 1u);

static inline __attribute__((always_inline))
uint segment_of(device Run* const thread & run, thread const uint& row)
{
    return (reinterpret_cast<device U32*>(run->row_segments))->v[row];
}

static inline __attribute__((always_inline))
uint group_of_row(thread uint3& gl_WorkGroupID, thread uint3& gl_NumWorkGroups)
{
    return gl_WorkGroupID.x + (gl_WorkGroupID.z * gl_NumWorkGroups.x);
}

static inline __attribute__((always_inline))
int word_of(device Run* const thread & run, thread const uint& segment, thread const uint& word)
{
    return (reinterpret_cast<device Segments*>(run->segments))->v[(segment * 8u) + word];
}

static inline __attribute__((always_inline))
ulong state_before(device Run* const thread & run, thread const uint& segment, thread const ulong& states, thread const uint& slot_bytes)
{
    device Run* param = run;
    uint param_1 = segment;
    uint param_2 = 4u;
    int slot = word_of(param, param_1, param_2);
    ulong _133;
    if (slot < 0)
    {
        _133 = 0ul;
    }
    else
    {
        _133 = states + (ulong(long(slot)) * ulong(slot_bytes));
    }
    return _133;
}

static inline __attribute__((always_inline))
ulong state_behind(device Run* const thread & run, thread const uint& segment, thread const ulong& states, thread const uint& slot_bytes)
{
    ulong _150 = states;
    device Run* param = run;
    uint param_1 = segment;
    uint param_2 = 5u;
    return _150 + (ulong(long(word_of(param, param_1, param_2))) * ulong(slot_bytes));
}

static inline __attribute__((always_inline))
int token_at(thread const int& at, thread const int& first, thread const ulong& before, constant Arguments& v_291)
{
    if (at >= first)
    {
        return v_291.tokens->v[at];
    }
    if (before != 0ul)
    {
        return int((reinterpret_cast<device F32*>(before))->v[(first - at) - 1]) - 1;
    }
    return -1;
}

static inline __attribute__((always_inline))
ulong number(thread const uint& h, thread const int& row, thread const int& first, thread const ulong& before, constant Arguments& v_291)
{
    int param = row;
    int param_1 = first;
    ulong param_2 = before;
    long mixed = v_291.hashes->v[0] * long(token_at(param, param_1, param_2, v_291));
    bool cut = false;
    int _356;
    int _390;
    for (uint j = 1u; j < (2u + (h / _350)); j++)
    {
        if (cut)
        {
            _356 = -1;
        }
        else
        {
            int param_3 = row - int(j);
            int param_4 = first;
            ulong param_5 = before;
            _356 = token_at(param_3, param_4, param_5, v_291);
        }
        int token = _356;
        bool _372 = token < 0;
        bool _383;
        if (!_372)
        {
            _383 = token == int(v_291.end);
        }
        else
        {
            _383 = _372;
        }
        cut = _383;
        if (cut)
        {
            _390 = int(v_291.end);
        }
        else
        {
            _390 = token;
        }
        mixed ^= (v_291.hashes->v[j] * long(_390));
    }
    ulong size = ulong(v_291.hashes->v[LONGEST + h]);
    return (ulong(mixed) % size) + ulong(v_291.hashes->v[_419 + h]);
}

static inline __attribute__((always_inline))
void unpack(thread const ulong& row, thread const uint& part, thread const uint& k, thread spvUnsafeArray<float, 32>& z)
{
    device U16* block = reinterpret_cast<device U16*>(row + ulong(part * 22u));
    device F16* halves = reinterpret_cast<device F16*>(row + ulong(part * 22u));
    float d = float(halves->v[0]);
    float low = (-16.0) * d;
    uint high = uint(block->v[1]) | (uint(block->v[2]) << uint(16));
    for (uint i = 0u; i < 16u; i++)
    {
        uint code = uint(block->v[3u + (i / 2u)]) >> ((i % 2u) * 8u);
        z[i] = (d * float((code & 15u) | (((high >> i) & 1u) << uint(4)))) + low;
        z[i + 16u] = (d * float(((code >> uint(4)) & 15u) | (((high >> (i + 16u)) & 1u) << uint(4)))) + low;
    }
}

kernel void main0(constant Arguments& v_291 [[buffer(0)]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]], uint3 gl_NumWorkGroups [[threadgroups_per_grid]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    uint row = gl_WorkGroupID.y;
    uint lane = gl_LocalInvocationID.x;
    if (row >= v_291.run->n_tokens)
    {
        return;
    }
    device Run* param = v_291.run;
    uint param_1 = row;
    uint segment = segment_of(param, param_1);
    uint h = group_of_row(gl_WorkGroupID, gl_NumWorkGroups) / v_291.spans;
    device Run* param_2 = v_291.run;
    uint param_3 = segment;
    uint param_4 = 0u;
    int first = word_of(param_2, param_3, param_4);
    int own = int(row);
    device Run* param_5 = v_291.run;
    uint param_6 = segment;
    ulong param_7 = v_291.states;
    uint param_8 = v_291.slot_bytes;
    ulong before = state_before(param_5, param_6, param_7, param_8);
    int _485 = own;
    int _487 = first;
    device Run* param_9 = v_291.run;
    uint param_10 = segment;
    uint param_11 = 1u;
    bool last = (_485 + 1) == (_487 + word_of(param_9, param_10, param_11));
    bool _502;
    if (last)
    {
        _502 = group_of_row(gl_WorkGroupID, gl_NumWorkGroups) == 0u;
    }
    else
    {
        _502 = last;
    }
    bool _508;
    if (_502)
    {
        _508 = (lane + 1u) < LONGEST;
    }
    else
    {
        _508 = _502;
    }
    if (_508)
    {
        device Run* param_12 = v_291.run;
        uint param_13 = segment;
        ulong param_14 = v_291.states;
        uint param_15 = v_291.slot_bytes;
        device F32* behind = reinterpret_cast<device F32*>(state_behind(param_12, param_13, param_14, param_15));
        int param_16 = own - int(lane);
        int param_17 = first;
        ulong param_18 = before;
        behind->v[lane] = float(token_at(param_16, param_17, param_18, v_291) + 1);
    }
    uint part = ((group_of_row(gl_WorkGroupID, gl_NumWorkGroups) % v_291.spans) * 64u) + lane;
    uint to = ((row * v_291.ldy) + (h * v_291.width)) + (part * 32u);
    if ((part * 32u) >= v_291.width)
    {
        return;
    }
    uint param_19 = h;
    int param_20 = own;
    int param_21 = first;
    ulong param_22 = before;
    ulong param_23 = v_291.w + (number(param_19, param_20, param_21, param_22, v_291) * ulong(v_291.row_bytes));
    uint param_24 = part;
    uint param_25 = v_291.width;
    spvUnsafeArray<float, 32> param_26;
    unpack(param_23, param_24, param_25, param_26);
    spvUnsafeArray<float, 32> z;
    z = param_26;
    uint i = 0u;
    for (;;)
    {
        bool _607 = i < 32u;
        bool _617;
        if (_607)
        {
            _617 = ((part * 32u) + i) < v_291.width;
        }
        else
        {
            _617 = _607;
        }
        if (_617)
        {
            v_291.y->v[to + i] = z[i];
            i++;
            continue;
        }
        else
        {
            break;
        }
    }
}

