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
    int _119 = word_of(param, param_1, param_2);
    uint _120 = row;
    device Run* param_3 = run;
    uint param_4 = segment;
    uint param_5 = 0u;
    return (_119 + int(_120)) - word_of(param_3, param_4, param_5);
}

static inline __attribute__((always_inline))
uint rank(thread const uint& i, constant Arguments& v_139)
{
    uint bits = as_type<uint>(v_139.scores->v[i]);
    if ((bits & 2147483647u) > 2139095040u)
    {
        return 0u;
    }
    uint _162;
    if ((bits & 2147483648u) == 0u)
    {
        _162 = bits | 2147483648u;
    }
    else
    {
        _162 = (~bits) + 1u;
    }
    return _162;
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
uint count(thread const uint& from, thread const uint& n, thread const uint& bound, constant Arguments& v_139, thread uint3& gl_LocalInvocationID, threadgroup uint (&sums)[64])
{
    uint own = 0u;
    for (uint i = gl_LocalInvocationID.x; i < n; i += 64u)
    {
        uint param = from + i;
        own += uint(rank(param, v_139) >= bound);
    }
    uint param_1 = own;
    Sums _250 = sums_of(param_1, gl_LocalInvocationID, sums);
    return _250._all;
}

static inline __attribute__((always_inline))
void find_threshold(thread const uint& from, thread const uint& n, thread uint& low, thread uint& above, constant Arguments& v_139, thread uint3& gl_LocalInvocationID, threadgroup uint (&sums)[64])
{
    low = 0u;
    above = 0u;
    for (int bit = 31; bit >= 0; bit--)
    {
        uint param = from;
        uint param_1 = n;
        uint param_2 = low | (1u << uint(bit));
        uint _274 = count(param, param_1, param_2, v_139, gl_LocalInvocationID, sums);
        uint larger = _274;
        if (larger >= v_139.top_k)
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
void list(thread const uint& to, thread const uint& item, thread const uint& position, constant Arguments& v_139)
{
    uint _303;
    float _325;
    for (uint j = 0u; j < EACH; j++)
    {
        if (BLOCKS)
        {
            _303 = (item * SIZE) + j;
        }
        else
        {
            _303 = ((item * SIZE) + SIZE) - 1u;
        }
        uint s = _303;
        if (s <= position)
        {
            _325 = float(s);
        }
        else
        {
            _325 = -1.0;
        }
        v_139.y->v[to + j] = _325;
    }
}

kernel void main0(constant Arguments& v_139 [[buffer(0)]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]], uint3 gl_NumWorkGroups [[threadgroups_per_grid]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    threadgroup uint sums[64];
    uint row = gl_WorkGroupID.y;
    uint head = group_of_row(gl_WorkGroupID, gl_NumWorkGroups);
    uint lane = gl_LocalInvocationID.x;
    if (row >= v_139.run->n_tokens)
    {
        return;
    }
    device Run* param = v_139.run;
    uint param_1 = row;
    uint _360 = segment_of(param, param_1);
    device Run* param_2 = v_139.run;
    uint param_3 = _360;
    uint param_4 = row;
    uint position = uint(position_of(param_2, param_3, param_4));
    uint _370;
    if (BLOCKS)
    {
        _370 = (position / SIZE) + 1u;
    }
    else
    {
        _370 = (position + 1u) / SIZE;
    }
    uint n = _370;
    uint from = (row * v_139.lds) + (head * v_139.most);
    uint to = (row * v_139.ldy) + ((head * v_139.top_k) * EACH);
    uint place = 0u;
    uint bound = 0u;
    uint above = 0u;
    if (n > v_139.top_k)
    {
        uint param_5 = from;
        uint param_6 = n;
        uint param_7;
        uint param_8;
        find_threshold(param_5, param_6, param_7, param_8, v_139, gl_LocalInvocationID, sums);
        bound = param_7;
        above = param_8;
    }
    uint equals = v_139.top_k - above;
    for (uint start = 0u; start < n; start += 64u)
    {
        uint i = start + lane;
        uint own = 0u;
        bool better = false;
        bool _equal = false;
        if (i < n)
        {
            if (n > v_139.top_k)
            {
                uint param_9 = from + i;
                own = rank(param_9, v_139);
            }
            better = (n <= v_139.top_k) || (own > bound);
            _equal = (!better) && (own == bound);
        }
        uint param_10 = uint(better) + (uint(_equal) << uint(16));
        Sums _485 = sums_of(param_10, gl_LocalInvocationID, sums);
        Sums seen = _485;
        uint same = min((seen.before >> uint(16)), equals);
        uint all_same = min((seen._all >> uint(16)), equals);
        bool _511;
        if (!better)
        {
            bool _510;
            if (_equal)
            {
                _510 = (seen.before >> uint(16)) < equals;
            }
            else
            {
                _510 = _equal;
            }
            _511 = _510;
        }
        else
        {
            _511 = better;
        }
        if (_511)
        {
            uint param_11 = to + (((place + (seen.before & 65535u)) + same) * EACH);
            uint param_12 = i;
            uint param_13 = position;
            list(param_11, param_12, param_13, v_139);
        }
        equals -= all_same;
        place += ((seen._all & 65535u) + all_same);
    }
    uint _547 = (place * EACH) + lane;
    for (uint i_1 = _547; i_1 < (v_139.top_k * EACH); i_1 += 64u)
    {
        v_139.y->v[to + i_1] = -1.0;
    }
}

