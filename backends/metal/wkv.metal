// Made by backends/_metal_shaders.py of vulkan/wkv.comp: change that file.
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

#ifndef SPIRV_CROSS_CONSTANT_ID_3
#define SPIRV_CROSS_CONSTANT_ID_3 64u
#endif
constant uint N = SPIRV_CROSS_CONSTANT_ID_3;
constant uint _231 = (N + 3u);
constant uint PART = (_231 / 4u);
constant uint _241 = (N % 4u);
constant bool _242 = (_241 == 0u);
#ifndef SPIRV_CROSS_CONSTANT_ID_4
#define SPIRV_CROSS_CONSTANT_ID_4 64u
#endif
constant uint COLUMNS = SPIRV_CROSS_CONSTANT_ID_4;

struct F32
{
    float v[1];
};

struct Arguments
{
    device Run* run;
    device F32* r;
    device F32* k;
    device F32* v;
    device F32* w;
    device F32* erase;
    device F32* rate;
    device F32* y;
    ulong states;
    uint ldr;
    uint ldk;
    uint ldv;
    uint ldw;
    uint lde;
    uint lda;
    uint ldy;
    uint slot_bytes;
};

constant uint _394 = (COLUMNS + 15u);
constant uint _395 = (_394 / 16u);
#ifndef SPIRV_CROSS_CONSTANT_ID_1
#define SPIRV_CROSS_CONSTANT_ID_1 1u
#endif
constant uint HEADS = SPIRV_CROSS_CONSTANT_ID_1;
#ifndef SPIRV_CROSS_CONSTANT_ID_2
#define SPIRV_CROSS_CONSTANT_ID_2 1u
#endif
constant uint KEY_HEADS = SPIRV_CROSS_CONSTANT_ID_2;
constant uint _417 = (HEADS / KEY_HEADS);
constant ulong _439 = ulong(N);
constant ulong _441 = ulong(COLUMNS);
#ifndef SPIRV_CROSS_CONSTANT_ID_0
#define SPIRV_CROSS_CONSTANT_ID_0 0u
#endif
constant uint FORM = SPIRV_CROSS_CONSTANT_ID_0;
constant bool _493 = (FORM == 2u);
constant bool _588 = (FORM == 1u);
constant bool _606 = (FORM == 2u);
constant bool _636 = (FORM == 0u);
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(64u, 1u, 1u);

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
uint end_of_segment(device Run* const thread & run, thread const uint& row)
{
    if (row >= run->n_tokens)
    {
        return 0u;
    }
    device Run* param = run;
    uint param_1 = row;
    uint segment = segment_of(param, param_1);
    device Run* param_2 = run;
    uint param_3 = segment;
    uint param_4 = 0u;
    bool begins = word_of(param_2, param_3, param_4) == int(row);
    uint _157;
    if (begins)
    {
        uint _160 = row;
        device Run* param_5 = run;
        uint param_6 = segment;
        uint param_7 = 1u;
        _157 = _160 + uint(word_of(param_5, param_6, param_7));
    }
    else
    {
        _157 = 0u;
    }
    return _157;
}

static inline __attribute__((always_inline))
uint group_of_row(thread uint3& gl_WorkGroupID, thread uint3& gl_NumWorkGroups)
{
    return gl_WorkGroupID.x + (gl_WorkGroupID.z * gl_NumWorkGroups.x);
}

static inline __attribute__((always_inline))
uint column_of_lane(thread const uint& block, thread uint3& gl_LocalInvocationID)
{
    return (16u * block) + (gl_LocalInvocationID.x & 15u);
}

static inline __attribute__((always_inline))
ulong state_before(device Run* const thread & run, thread const uint& segment, thread const ulong& states, thread const uint& slot_bytes)
{
    device Run* param = run;
    uint param_1 = segment;
    uint param_2 = 4u;
    int slot = word_of(param, param_1, param_2);
    ulong _185;
    if (slot < 0)
    {
        _185 = 0ul;
    }
    else
    {
        _185 = states + (ulong(long(slot)) * ulong(slot_bytes));
    }
    return _185;
}

static inline __attribute__((always_inline))
uint row_of(thread const uint& i, thread uint3& gl_LocalInvocationID)
{
    return (PART * (gl_LocalInvocationID.x >> uint(4))) + i;
}

static inline __attribute__((always_inline))
bool has(thread const uint& i, thread uint3& gl_LocalInvocationID)
{
    bool _250;
    if (!_242)
    {
        uint param = i;
        _250 = row_of(param, gl_LocalInvocationID) < N;
    }
    else
    {
        _250 = _242;
    }
    return _250;
}

static inline __attribute__((always_inline))
void load_state(thread const ulong& at, thread const uint& column, thread uint3& gl_LocalInvocationID, thread spvUnsafeArray<float, PART>& state)
{
    for (uint i = 0u; i < PART; i++)
    {
        state[i] = 0.0;
        bool _274 = at != 0ul;
        bool _280;
        if (_274)
        {
            uint param = i;
            _280 = has(param, gl_LocalInvocationID);
        }
        else
        {
            _280 = _274;
        }
        if (_280 && (column < COLUMNS))
        {
            uint param_1 = i;
            state[i] = (reinterpret_cast<device F32*>(at))->v[(row_of(param_1, gl_LocalInvocationID) * COLUMNS) + column];
        }
    }
}

static inline __attribute__((always_inline))
float over_parts(thread const float& x, thread uint3& gl_LocalInvocationID, threadgroup float (&parts)[64])
{
    uint lane = gl_LocalInvocationID.x;
    uint first = lane & 15u;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    parts[lane] = x;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    return (parts[first] + parts[first + 16u]) + (parts[first + 32u] + parts[first + 48u]);
}

static inline __attribute__((always_inline))
bool is_first_part(thread uint3& gl_LocalInvocationID)
{
    return gl_LocalInvocationID.x < 16u;
}

static inline __attribute__((always_inline))
ulong state_behind(device Run* const thread & run, thread const uint& segment, thread const ulong& states, thread const uint& slot_bytes)
{
    ulong _202 = states;
    device Run* param = run;
    uint param_1 = segment;
    uint param_2 = 5u;
    return _202 + (ulong(long(word_of(param, param_1, param_2))) * ulong(slot_bytes));
}

static inline __attribute__((always_inline))
void store_state(thread const ulong& at, thread const uint& column, thread uint3& gl_LocalInvocationID, thread spvUnsafeArray<float, PART>& state)
{
    for (uint i = 0u; i < PART; i++)
    {
        uint param = i;
        if (has(param, gl_LocalInvocationID) && (column < COLUMNS))
        {
            uint param_1 = i;
            (reinterpret_cast<device F32*>(at))->v[(row_of(param_1, gl_LocalInvocationID) * COLUMNS) + column] = state[i];
        }
    }
}

kernel void main0(constant Arguments& _379 [[buffer(0)]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]], uint3 gl_NumWorkGroups [[threadgroups_per_grid]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    threadgroup float parts[64];
    uint row = gl_WorkGroupID.y;
    device Run* param = _379.run;
    uint param_1 = row;
    uint end = end_of_segment(param, param_1);
    spvUnsafeArray<float, PART> state;
    if (row >= end)
    {
        return;
    }
    uint blocks = _395;
    device Run* param_2 = _379.run;
    uint param_3 = row;
    uint segment = segment_of(param_2, param_3);
    uint head = group_of_row(gl_WorkGroupID, gl_NumWorkGroups) / blocks;
    uint param_4 = group_of_row(gl_WorkGroupID, gl_NumWorkGroups) % blocks;
    uint i = column_of_lane(param_4, gl_LocalInvocationID);
    uint key_head = head / _417;
    device Run* param_5 = _379.run;
    uint param_6 = segment;
    ulong param_7 = _379.states;
    uint param_8 = _379.slot_bytes;
    ulong before = state_before(param_5, param_6, param_7, param_8);
    ulong own = ((ulong(head) * _439) * _441) * 4ul;
    ulong _447;
    if (before == 0ul)
    {
        _447 = 0ul;
    }
    else
    {
        _447 = before + own;
    }
    ulong param_9 = _447;
    uint param_10 = i;
    load_state(param_9, param_10, gl_LocalInvocationID, state);
    float _637;
    for (uint t = row; t < end; t++)
    {
        float held = 0.0;
        float total = 0.0;
        float value = 0.0;
        if (i < COLUMNS)
        {
            value = _379.v->v[((t * _379.ldv) + (key_head * COLUMNS)) + i];
        }
        if (_493)
        {
            for (uint j = 0u; j < PART; j++)
            {
                uint param_11 = j;
                if (has(param_11, gl_LocalInvocationID))
                {
                    uint param_12 = j;
                    held += (state[j] * _379.erase->v[((t * _379.lde) + (head * N)) + row_of(param_12, gl_LocalInvocationID)]);
                }
            }
            float param_13 = held;
            float _536 = over_parts(param_13, gl_LocalInvocationID, parts);
            held = _536;
        }
        for (uint j_1 = 0u; j_1 < PART; j_1++)
        {
            uint param_14 = j_1;
            if (!has(param_14, gl_LocalInvocationID))
            {
                continue;
            }
            uint param_15 = j_1;
            uint at = (head * N) + row_of(param_15, gl_LocalInvocationID);
            float decay = _379.w->v[(t * _379.ldw) + at];
            uint param_16 = j_1;
            float key = _379.k->v[((t * _379.ldk) + (key_head * N)) + row_of(param_16, gl_LocalInvocationID)];
            if (_588)
            {
                key *= (1.0 - decay);
            }
            float next = (state[j_1] * decay) + (key * value);
            if (_606)
            {
                next -= ((_379.rate->v[(t * _379.lda) + at] * _379.erase->v[(t * _379.lde) + at]) * held);
            }
            if (_636)
            {
                _637 = state[j_1];
            }
            else
            {
                _637 = next;
            }
            total += (_637 * _379.r->v[(t * _379.ldr) + at]);
            state[j_1] = next;
        }
        float param_17 = total;
        float _667 = over_parts(param_17, gl_LocalInvocationID, parts);
        total = _667;
        if (is_first_part(gl_LocalInvocationID) && (i < COLUMNS))
        {
            _379.y->v[((t * _379.ldy) + (head * COLUMNS)) + i] = total;
        }
    }
    device Run* param_18 = _379.run;
    uint param_19 = segment;
    ulong param_20 = _379.states;
    uint param_21 = _379.slot_bytes;
    ulong param_22 = state_behind(param_18, param_19, param_20, param_21) + own;
    uint param_23 = i;
    store_state(param_22, param_23, gl_LocalInvocationID, state);
}

