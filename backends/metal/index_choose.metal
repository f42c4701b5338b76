// Made by backends/_metal_shaders.py of vulkan/index_choose.comp: change that file.
#pragma clang diagnostic ignored "-Wmissing-prototypes"

#include <metal_stdlib>
#include <simd/simd.h>

using namespace metal;

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

struct Sums
{
    uint before;
    uint _all;
};

struct U32
{
    uint v[1];
};

struct Segments
{
    int v[1];
};

struct Arguments
{
    device Run* run;
    device F32* scores;
    device F32* y;
    uint lds;
    uint most;
    uint ldy;
    uint top_k;
};

struct F32
{
    float v[1];
};

#ifndef SPIRV_CROSS_CONSTANT_ID_1
#define SPIRV_CROSS_CONSTANT_ID_1 false
#endif
constant bool BLOCKS = SPIRV_CROSS_CONSTANT_ID_1;
#ifndef SPIRV_CROSS_CONSTANT_ID_0
#define SPIRV_CROSS_CONSTANT_ID_0 1u
#endif
constant uint SIZE = SPIRV_CROSS_CONSTANT_ID_0;
constant uint EACH = BLOCKS ? SIZE : 1u;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(64u, 1u, 1u);

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
int position_of(device Run* const thread & run, thread const uint& segment, thread const uint& row)
{
    device Segments* s = reinterpret_cast<device Segments*>(run->segments);
    return (s->v[(segment * 8u) + 2u] + int(row)) - s->v[segment * 8u];
}

static inline __attribute__((always_inline))
uint rank(thread const uint& i, constant Arguments& v_127)
{
    uint bits = as_type<uint>(v_127.scores->v[i]);
    if ((bits & 2147483647u) > 2139095040u)
    {
        return 0u;
    }
    uint _150;
    if ((bits & 2147483648u) == 0u)
    {
        _150 = bits | 2147483648u;
    }
    else
    {
        _150 = (~bits) + 1u;
    }
    return _150;
}

static inline __attribute__((always_inline))
Sums sums_of(thread const uint& x, thread uint3& gl_LocalInvocationID, threadgroup uint (&sums)[64])
{
    uint lane = gl_LocalInvocationID.x;
    uint seen = x;
    for (uint by = 1u; by < 64u; by *= 2u)
    {
        threadgroup_barrier(mem_flags::mem_threadgroup);
        sums[lane] = seen;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (lane >= by)
        {
            seen += sums[lane - by];
        }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    sums[lane] = seen;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    return Sums{ seen - x, sums[63] };
}

static inline __attribute__((always_inline))
uint count(thread const uint& from, thread const uint& n, thread const uint& bound, constant Arguments& v_127, thread uint3& gl_LocalInvocationID, threadgroup uint (&sums)[64])
{
    uint own = 0u;
    for (uint i = gl_LocalInvocationID.x; i < n; i += 64u)
    {
        uint param = from + i;
        own += uint(rank(param, v_127) >= bound);
    }
    uint param_1 = own;
    Sums _238 = sums_of(param_1, gl_LocalInvocationID, sums);
    return _238._all;
}

static inline __attribute__((always_inline))
void find_threshold(thread const uint& from, thread const uint& n, thread uint& low, thread uint& above, constant Arguments& v_127, thread uint3& gl_LocalInvocationID, threadgroup uint (&sums)[64])
{
    low = 0u;
    above = 0u;
    for (int bit = 31; bit >= 0; bit--)
    {
        uint param = from;
        uint param_1 = n;
        uint param_2 = low | (1u << uint(bit));
        uint _262 = count(param, param_1, param_2, v_127, gl_LocalInvocationID, sums);
        uint larger = _262;
        if (larger >= v_127.top_k)
        {
            low |= (1u << uint(bit));
        }
        else
        {
            above = larger;
        }
    }
}

static inline __attribute__((always_inline))
void list(thread const uint& to, thread const uint& item, thread const uint& position, constant Arguments& v_127)
{
    uint _291;
    float _313;
    for (uint j = 0u; j < EACH; j++)
    {
        if (BLOCKS)
        {
            _291 = (item * SIZE) + j;
        }
        else
        {
            _291 = ((item * SIZE) + SIZE) - 1u;
        }
        uint s = _291;
        if (s <= position)
        {
            _313 = float(s);
        }
        else
        {
            _313 = -1.0;
        }
        v_127.y->v[to + j] = _313;
    }
}

kernel void main0(constant Arguments& v_127 [[buffer(0)]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]], uint3 gl_NumWorkGroups [[threadgroups_per_grid]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    threadgroup uint sums[64];
    uint row = gl_WorkGroupID.y;
    uint head = group_of_row(gl_WorkGroupID, gl_NumWorkGroups);
    uint lane = gl_LocalInvocationID.x;
    if (row >= v_127.run->n_tokens)
    {
        return;
    }
    device Run* param = v_127.run;
    uint param_1 = row;
    uint _348 = segment_of(param, param_1);
    device Run* param_2 = v_127.run;
    uint param_3 = _348;
    uint param_4 = row;
    uint position = uint(position_of(param_2, param_3, param_4));
    uint _358;
    if (BLOCKS)
    {
        _358 = (position / SIZE) + 1u;
    }
    else
    {
        _358 = (position + 1u) / SIZE;
    }
    uint n = _358;
    uint from = (row * v_127.lds) + (head * v_127.most);
    uint to = (row * v_127.ldy) + ((head * v_127.top_k) * EACH);
    uint place = 0u;
    uint bound = 0u;
    uint above = 0u;
    if (n > v_127.top_k)
    {
        uint param_5 = from;
        uint param_6 = n;
        uint param_7;
        uint param_8;
        find_threshold(param_5, param_6, param_7, param_8, v_127, gl_LocalInvocationID, sums);
        bound = param_7;
        above = param_8;
    }
    uint equals = v_127.top_k - above;
    for (uint start = 0u; start < n; start += 64u)
    {
        uint i = start + lane;
        uint own = 0u;
        bool better = false;
        bool _equal = false;
        if (i < n)
        {
            if (n > v_127.top_k)
            {
                uint param_9 = from + i;
                own = rank(param_9, v_127);
            }
            better = (n <= v_127.top_k) || (own > bound);
            _equal = (!better) && (own == bound);
        }
        uint param_10 = uint(better) + (uint(_equal) << uint(16));
        Sums _473 = sums_of(param_10, gl_LocalInvocationID, sums);
        Sums seen = _473;
        uint same = min((seen.before >> uint(16)), equals);
        uint all_same = min((seen._all >> uint(16)), equals);
        bool _499;
        if (!better)
        {
            bool _498;
            if (_equal)
            {
                _498 = (seen.before >> uint(16)) < equals;
            }
            else
            {
                _498 = _equal;
            }
            _499 = _498;
        }
        else
        {
            _499 = better;
        }
        if (_499)
        {
            uint param_11 = to + (((place + (seen.before & 65535u)) + same) * EACH);
            uint param_12 = i;
            uint param_13 = position;
            list(param_11, param_12, param_13, v_127);
        }
        equals -= all_same;
        place += ((seen._all & 65535u) + all_same);
    }
    uint _535 = (place * EACH) + lane;
    for (uint i_1 = _535; i_1 < (v_127.top_k * EACH); i_1 += 64u)
    {
        v_127.y->v[to + i_1] = -1.0;
    }
}

