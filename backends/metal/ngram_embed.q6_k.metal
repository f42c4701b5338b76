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
struct F16;
struct U8;
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

struct F16
{
    half v[1];
};

struct U8
{
    uchar v[1];
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
constant uint _381 = (LONGEST - 1u);
constant uint _382 = (HASHES / _381);
constant uint _451 = (LONGEST + HASHES);
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
int token_at(thread const int& at, thread const int& first, thread const ulong& before, constant Arguments& v_322)
{
    if (at >= first)
    {
        return v_322.tokens->v[at];
    }
    if (before != 0ul)
    {
        return int((reinterpret_cast<device F32*>(before))->v[(first - at) - 1]) - 1;
    }
    return -1;
}

static inline __attribute__((always_inline))
ulong number(thread const uint& h, thread const int& row, thread const int& first, thread const ulong& before, constant Arguments& v_322)
{
    int param = row;
    int param_1 = first;
    ulong param_2 = before;
    long mixed = v_322.hashes->v[0] * long(token_at(param, param_1, param_2, v_322));
    bool cut = false;
    int _388;
    int _422;
    for (uint j = 1u; j < (2u + (h / _382)); j++)
    {
        if (cut)
        {
            _388 = -1;
        }
        else
        {
            int param_3 = row - int(j);
            int param_4 = first;
            ulong param_5 = before;
            _388 = token_at(param_3, param_4, param_5, v_322);
        }
        int token = _388;
        bool _404 = token < 0;
        bool _415;
        if (!_404)
        {
            _415 = token == int(v_322.end);
        }
        else
        {
            _415 = _404;
        }
        cut = _415;
        if (cut)
        {
            _422 = int(v_322.end);
        }
        else
        {
            _422 = token;
        }
        mixed ^= (v_322.hashes->v[j] * long(_422));
    }
    ulong size = ulong(v_322.hashes->v[LONGEST + h]);
    return (ulong(mixed) % size) + ulong(v_322.hashes->v[_451 + h]);
}

static inline __attribute__((always_inline))
void unpack(thread const ulong& row, thread const uint& part, thread const uint& k, thread spvUnsafeArray<float, 32>& z)
{
    ulong block = row + ulong((part / 8u) * 210u);
    uint half_ = (part % 8u) / 4u;
    uint quarter = part % 4u;
    float d = float((reinterpret_cast<device F16*>(block))->v[104]);
    device U8* low = reinterpret_cast<device U8*>((block + ulong(64u * half_)) + ulong((quarter % 2u) * 32u));
    device U8* high = reinterpret_cast<device U8*>((block + 128ul) + ulong(32u * half_));
    device U8* scales = reinterpret_cast<device U8*>((block + 192ul) + ulong((part % 8u) * 2u));
    for (uint g = 0u; g < 2u; g++)
    {
        float scale = d * float(int(uint(scales->v[g]) << uint(24)) >> 24);
        uint _256 = 16u * g;
        for (uint i = _256; i < ((16u * g) + 16u); i++)
        {
            uint code = (uint(low->v[i]) >> ((quarter / 2u) * 4u)) & 15u;
            code |= (((uint(high->v[i]) >> (2u * quarter)) & 3u) << uint(4));
            z[i] = scale * float(int(code) - 32);
        }
    }
}

kernel void main0(constant Arguments& v_322 [[buffer(0)]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]], uint3 gl_NumWorkGroups [[threadgroups_per_grid]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    uint row = gl_WorkGroupID.y;
    uint lane = gl_LocalInvocationID.x;
    if (row >= v_322.run->n_tokens)
    {
        return;
    }
    device Run* param = v_322.run;
    uint param_1 = row;
    uint segment = segment_of(param, param_1);
    uint h = group_of_row(gl_WorkGroupID, gl_NumWorkGroups) / v_322.spans;
    device Run* param_2 = v_322.run;
    uint param_3 = segment;
    uint param_4 = 0u;
    int first = word_of(param_2, param_3, param_4);
    int own = int(row);
    device Run* param_5 = v_322.run;
    uint param_6 = segment;
    ulong param_7 = v_322.states;
    uint param_8 = v_322.slot_bytes;
    ulong before = state_before(param_5, param_6, param_7, param_8);
    int _517 = own;
    int _519 = first;
    device Run* param_9 = v_322.run;
    uint param_10 = segment;
    uint param_11 = 1u;
    bool last = (_517 + 1) == (_519 + word_of(param_9, param_10, param_11));
    bool _534;
    if (last)
    {
        _534 = group_of_row(gl_WorkGroupID, gl_NumWorkGroups) == 0u;
    }
    else
    {
        _534 = last;
    }
    bool _540;
    if (_534)
    {
        _540 = (lane + 1u) < LONGEST;
    }
    else
    {
        _540 = _534;
    }
    if (_540)
    {
        device Run* param_12 = v_322.run;
        uint param_13 = segment;
        ulong param_14 = v_322.states;
        uint param_15 = v_322.slot_bytes;
        device F32* behind = reinterpret_cast<device F32*>(state_behind(param_12, param_13, param_14, param_15));
        int param_16 = own - int(lane);
        int param_17 = first;
        ulong param_18 = before;
        behind->v[lane] = float(token_at(param_16, param_17, param_18, v_322) + 1);
    }
    uint part = ((group_of_row(gl_WorkGroupID, gl_NumWorkGroups) % v_322.spans) * 64u) + lane;
    uint to = ((row * v_322.ldy) + (h * v_322.width)) + (part * 32u);
    if ((part * 32u) >= v_322.width)
    {
        return;
    }
    uint param_19 = h;
    int param_20 = own;
    int param_21 = first;
    ulong param_22 = before;
    ulong param_23 = v_322.w + (number(param_19, param_20, param_21, param_22, v_322) * ulong(v_322.row_bytes));
    uint param_24 = part;
    uint param_25 = v_322.width;
    spvUnsafeArray<float, 32> param_26;
    unpack(param_23, param_24, param_25, param_26);
    spvUnsafeArray<float, 32> z;
    z = param_26;
    uint i = 0u;
    for (;;)
    {
        bool _638 = i < 32u;
        bool _648;
        if (_638)
        {
            _648 = ((part * 32u) + i) < v_322.width;
        }
        else
        {
            _648 = _638;
        }
        if (_648)
        {
            v_322.y->v[to + i] = z[i];
            i++;
            continue;
        }
        else
        {
            break;
        }
    }
}

