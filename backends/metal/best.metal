// Made by backends/_metal_shaders.py of vulkan/best.comp: change that file.
#pragma clang diagnostic ignored "-Wmissing-prototypes"

#include <metal_stdlib>
#include <simd/simd.h>

using namespace metal;

struct U32;
struct F32;

#ifndef SPIRV_CROSS_CONSTANT_ID_0
#define SPIRV_CROSS_CONSTANT_ID_0 64u
#endif
constant uint K = SPIRV_CROSS_CONSTANT_ID_0;
constant uint _128 = (K / 2u);
constant uint _306 = (K / 2u);

struct Arguments
{
    device U32* rows;
    device F32* x;
    device U32* keys;
    device U32* y;
    uint ldx;
    uint n;
    uint n_keys;
    uint part;
};

struct U32
{
    uint v[1];
};

struct F32
{
    float v[1];
};

#ifndef SPIRV_CROSS_CONSTANT_ID_1
#define SPIRV_CROSS_CONSTANT_ID_1 false
#endif
constant bool LAST = SPIRV_CROSS_CONSTANT_ID_1;
constant bool _486 = (!LAST);
constant bool _519 = (!LAST);
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(64u, 1u, 1u);

static inline __attribute__((always_inline))
uint group_of_row(thread uint3& gl_WorkGroupID, thread uint3& gl_NumWorkGroups)
{
    return gl_WorkGroupID.x + (gl_WorkGroupID.z * gl_NumWorkGroups.x);
}

static inline __attribute__((always_inline))
uint rank_of(thread const uint& bits)
{
    if ((bits & 2147483647u) > 2139095040u)
    {
        return 4294967295u;
    }
    if (bits == 2147483648u)
    {
        return bits;
    }
    uint _79;
    if ((bits >> uint(31)) == 1u)
    {
        _79 = ~bits;
    }
    else
    {
        _79 = bits | 2147483648u;
    }
    return _79;
}

static inline __attribute__((always_inline))
void take(thread const uint& i, thread const uint& j, thread const uint& stop, thread const uint& row, threadgroup uint (&ranks)[1024], threadgroup uint (&places)[1024], constant Arguments& v_342)
{
    uint rank = 0u;
    uint place = 4294967295u;
    uint at = 2u * ((row * v_342.n_keys) + j);
    if ((j < stop) && LAST)
    {
        rank = v_342.keys->v[at];
        place = v_342.keys->v[at + 1u];
    }
    else
    {
        if (j < stop)
        {
            uint param = as_type<uint>(v_342.x->v[(row * v_342.ldx) + j]);
            rank = rank_of(param);
            place = j;
        }
    }
    ranks[i] = rank;
    places[i] = place;
}

static inline __attribute__((always_inline))
bool before(thread const uint& a, thread const uint& b, threadgroup uint (&ranks)[1024], threadgroup uint (&places)[1024])
{
    bool _101 = ranks[a] > ranks[b];
    bool _123;
    if (!_101)
    {
        bool _111 = ranks[a] == ranks[b];
        bool _122;
        if (_111)
        {
            _122 = places[a] < places[b];
        }
        else
        {
            _122 = _111;
        }
        _123 = _122;
    }
    else
    {
        _123 = _101;
    }
    return _123;
}

static inline __attribute__((always_inline))
void exchange(thread const uint& count, thread const uint& _step, thread const uint& _distance, thread const uint& mask, threadgroup uint (&ranks)[1024], threadgroup uint (&places)[1024], thread uint3& gl_LocalInvocationID)
{
    uint most = max(_128, 1u);
    for (uint p = gl_LocalInvocationID.x; p < count; p += 64u)
    {
        uint e = p % most;
        uint i = (((p / most) * _step) + e) + (e & (~(_distance - 1u)));
        uint o = i ^ mask;
        uint param = o;
        uint param_1 = i;
        if (before(param, param_1, ranks, places))
        {
            uint rank = ranks[i];
            uint place = places[i];
            ranks[i] = ranks[o];
            places[i] = places[o];
            ranks[o] = rank;
            places[o] = place;
        }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
}

static inline __attribute__((always_inline))
void sort_runs(threadgroup uint (&ranks)[1024], threadgroup uint (&places)[1024], thread uint3& gl_LocalInvocationID)
{
    for (uint size = 2u; size <= K; size *= 2u)
    {
        uint param = 512u;
        uint param_1 = K;
        uint param_2 = size / 2u;
        uint param_3 = size - 1u;
        exchange(param, param_1, param_2, param_3, ranks, places, gl_LocalInvocationID);
        uint _220 = size / 4u;
        for (uint d = _220; d > 0u; d /= 2u)
        {
            uint param_4 = 512u;
            uint param_5 = K;
            uint param_6 = d;
            uint param_7 = d;
            exchange(param_4, param_5, param_6, param_7, ranks, places, gl_LocalInvocationID);
        }
    }
}

static inline __attribute__((always_inline))
void merge_runs(threadgroup uint (&ranks)[1024], threadgroup uint (&places)[1024], thread uint3& gl_LocalInvocationID)
{
    for (uint _step = K; _step < 1024u; _step *= 2u)
    {
        uint count = (1024u / (2u * _step)) * K;
        for (uint p = gl_LocalInvocationID.x; p < count; p += 64u)
        {
            uint e = p % K;
            uint first = ((p / K) * 2u) * _step;
            uint o = (((first + _step) + K) - 1u) - e;
            uint param = o;
            uint param_1 = first + e;
            if (before(param, param_1, ranks, places))
            {
                ranks[first + e] = ranks[o];
                places[first + e] = places[o];
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint d = _306; d > 0u; d /= 2u)
        {
            uint param_2 = count / 2u;
            uint param_3 = 2u * _step;
            uint param_4 = d;
            uint param_5 = d;
            exchange(param_2, param_3, param_4, param_5, ranks, places, gl_LocalInvocationID);
        }
    }
}

kernel void main0(constant Arguments& v_342 [[buffer(0)]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]], uint3 gl_NumWorkGroups [[threadgroups_per_grid]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    threadgroup uint ranks[1024];
    threadgroup uint places[1024];
    uint row = gl_WorkGroupID.y;
    uint lane = gl_LocalInvocationID.x;
    uint group = group_of_row(gl_WorkGroupID, gl_NumWorkGroups);
    if (row >= v_342.rows->v[0])
    {
        return;
    }
    uint _421;
    if (LAST)
    {
        _421 = v_342.n_keys;
    }
    else
    {
        _421 = min(v_342.n, ((group + 1u) * v_342.part));
    }
    uint stop = _421;
    uint _443 = group * v_342.part;
    for (uint kept = 0u, start = _443; start < stop; start += (1024u - kept))
    {
        if (start > (group * v_342.part))
        {
            kept = K;
        }
        uint _463 = kept + lane;
        for (uint i = _463; i < 1024u; i += 64u)
        {
            uint param = i;
            uint param_1 = (start + i) - kept;
            uint param_2 = stop;
            uint param_3 = row;
            take(param, param_1, param_2, param_3, ranks, places, v_342);
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (_486)
        {
            sort_runs(ranks, places, gl_LocalInvocationID);
        }
        merge_runs(ranks, places, gl_LocalInvocationID);
    }
    uint _558;
    for (uint i_1 = lane; i_1 < K; i_1 += 64u)
    {
        uint place = places[i_1];
        uint at = 2u * (((row * v_342.n_keys) + (group * K)) + i_1);
        if (_519)
        {
            v_342.keys->v[at] = ranks[i_1];
            v_342.keys->v[at + 1u] = place;
            continue;
        }
        v_342.y->v[((2u * row) * K) + i_1] = place;
        if (place < v_342.n)
        {
            _558 = as_type<uint>(v_342.x->v[(row * v_342.ldx) + place]);
        }
        else
        {
            _558 = 4286578688u;
        }
        v_342.y->v[(((2u * row) * K) + K) + i_1] = _558;
    }
}

