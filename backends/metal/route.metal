// Made by backends/_metal_shaders.py of vulkan/route.comp: change that file.
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

struct U32;
struct F32;

#ifndef SPIRV_CROSS_CONSTANT_ID_1
#define SPIRV_CROSS_CONSTANT_ID_1 8u
#endif
constant uint E = SPIRV_CROSS_CONSTANT_ID_1;

struct Arguments
{
    device U32* rows;
    device F32* logits;
    device F32* bias0;
    device F32* chosen;
    device U32* ids;
    device F32* weights;
    uint ldl;
    uint ldc;
    uint n_group;
    uint topk_group;
    uint per_group;
    float norm_min;
    float factor;
};

struct U32
{
    uint v[1];
};

struct F32
{
    float v[1];
};

#ifndef SPIRV_CROSS_CONSTANT_ID_0
#define SPIRV_CROSS_CONSTANT_ID_0 0u
#endif
constant uint GATING = SPIRV_CROSS_CONSTANT_ID_0;
constant bool _238 = (GATING == 0u);
constant bool _290 = (GATING == 0u);
constant bool _300 = (GATING == 1u);
constant bool _306 = (GATING == 2u);
#ifndef SPIRV_CROSS_CONSTANT_ID_4
#define SPIRV_CROSS_CONSTANT_ID_4 false
#endif
constant bool BIASED = SPIRV_CROSS_CONSTANT_ID_4;
#ifndef SPIRV_CROSS_CONSTANT_ID_5
#define SPIRV_CROSS_CONSTANT_ID_5 false
#endif
constant bool CHOSEN = SPIRV_CROSS_CONSTANT_ID_5;
constant bool _521 = (!CHOSEN);
#ifndef SPIRV_CROSS_CONSTANT_ID_2
#define SPIRV_CROSS_CONSTANT_ID_2 2u
#endif
constant uint K = SPIRV_CROSS_CONSTANT_ID_2;
constant bool _625 = (GATING == 3u);
constant bool _633 = (GATING == 4u);
constant bool _658 = (GATING == 3u);
#ifndef SPIRV_CROSS_CONSTANT_ID_3
#define SPIRV_CROSS_CONSTANT_ID_3 true
#endif
constant bool NORM = SPIRV_CROSS_CONSTANT_ID_3;
constant bool _668 = (GATING == 3u);
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(64u, 1u, 1u);

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
float sigmoid(thread const float& x)
{
    return 1.0 / (1.0 + exp(-x));
}

static inline __attribute__((always_inline))
float softplus(thread const float& x)
{
    float e = exp(-abs(x));
    float s = e / (2.0 + e);
    float z = s * s;
    float p = 0.111111111938953399658203125 + (z * (0.0909090936183929443359375 + (z * (0.076923079788684844970703125 + (z / 15.0)))));
    return fast::max(x, 0.0) + (2.0 * (s + ((s * z) * (0.3333333432674407958984375 + (z * (0.20000000298023223876953125 + (z * (0.14285714924335479736328125 + (z * p)))))))));
}

static inline __attribute__((always_inline))
void score(thread const uint& row, thread const uint& lane, thread uint3& gl_LocalInvocationID, threadgroup float (&lanes)[64], constant Arguments& v_216, threadgroup float (&scores)[E], threadgroup float (&ranks)[E])
{
    float top = -3.0000000054977557577780399428115e+38;
    float total = 0.0;
    for (uint e = lane; e < E; e += 64u)
    {
        top = fast::max(top, v_216.logits->v[(row * v_216.ldl) + e]);
    }
    float param = top;
    float _236 = max64(param, gl_LocalInvocationID, lanes);
    top = _236;
    if (_238)
    {
        for (uint e_1 = lane; e_1 < E; e_1 += 64u)
        {
            total += exp(v_216.logits->v[(row * v_216.ldl) + e_1] - top);
        }
        float param_1 = total;
        float _269 = sum64(param_1, gl_LocalInvocationID, lanes);
        total = _269;
    }
    float _322;
    for (uint e_2 = lane; e_2 < E; e_2 += 64u)
    {
        float x = v_216.logits->v[(row * v_216.ldl) + e_2];
        if (_290)
        {
            x = exp(x - top) / total;
        }
        if (_300)
        {
            float param_2 = x;
            x = sigmoid(param_2);
        }
        if (_306)
        {
            float param_3 = x;
            x = sqrt(softplus(param_3));
        }
        scores[e_2] = x;
        if (BIASED)
        {
            _322 = x + v_216.bias0->v[e_2];
        }
        else
        {
            _322 = x;
        }
        ranks[e_2] = _322;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
}

static inline __attribute__((always_inline))
float worth(thread const uint& group, thread const uint& size, threadgroup float (&ranks)[E])
{
    float first = -3.0000000054977557577780399428115e+38;
    float second = -3.0000000054977557577780399428115e+38;
    uint _344 = group * size;
    for (uint e = _344; e < ((group + 1u) * size); e++)
    {
        float r = ranks[e];
        if (r > first)
        {
            second = first;
            first = r;
        }
        else
        {
            if (r > second)
            {
                second = r;
            }
        }
    }
    float _378;
    if (size > 1u)
    {
        _378 = first + second;
    }
    else
    {
        _378 = first;
    }
    return _378;
}

static inline __attribute__((always_inline))
void drop_groups(constant Arguments& v_216, threadgroup float (&ranks)[E])
{
    uint size = E / v_216.n_group;
    spvUnsafeArray<float, 64> worths;
    for (uint g = 0u; g < v_216.n_group; g++)
    {
        uint param = g;
        uint param_1 = size;
        worths[g] = worth(param, param_1, ranks);
    }
    for (uint g_1 = 0u; g_1 < v_216.n_group; g_1++)
    {
        uint better = 0u;
        for (uint o = 0u; o < v_216.n_group; o++)
        {
            bool _442 = worths[o] > worths[g_1];
            bool _457;
            if (!_442)
            {
                _457 = (worths[o] == worths[g_1]) && (o < g_1);
            }
            else
            {
                _457 = _442;
            }
            if (_457)
            {
                better++;
            }
        }
        if (better >= v_216.topk_group)
        {
            uint _474 = g_1 * size;
            for (uint e = _474; e < ((g_1 + 1u) * size); e++)
            {
                ranks[e] = -3.0000000054977557577780399428115e+38;
            }
        }
    }
}

kernel void main0(constant Arguments& v_216 [[buffer(0)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float lanes[64];
    threadgroup float scores[E];
    threadgroup float ranks[E];
    uint row = gl_WorkGroupID.y;
    uint lane = gl_LocalInvocationID.x;
    if (row >= v_216.rows->v[0])
    {
        return;
    }
    uint param = row;
    uint param_1 = lane;
    score(param, param_1, gl_LocalInvocationID, lanes, v_216, scores, ranks);
    if (lane != 0u)
    {
        return;
    }
    bool _527;
    if (_521)
    {
        _527 = v_216.n_group > 1u;
    }
    else
    {
        _527 = _521;
    }
    if (_527)
    {
        drop_groups(v_216, ranks);
    }
    float top = -3.0000000054977557577780399428115e+38;
    float sum = 0.0;
    for (uint j = 0u; j < K; j++)
    {
        uint best = 0u;
        if (CHOSEN)
        {
            best = uint(v_216.chosen->v[(row * v_216.ldc) + j]);
        }
        else
        {
            for (uint e = 1u; e < E; e++)
            {
                if (ranks[e] > ranks[best])
                {
                    best = e;
                }
            }
            ranks[best] = -3.2999999654827121262525030891981e+38;
        }
        v_216.ids->v[(row * K) + j] = best / v_216.per_group;
        top = fast::max(top, scores[best / v_216.per_group]);
    }
    for (uint j_1 = 0u; j_1 < K; j_1++)
    {
        float weight = scores[v_216.ids->v[(row * K) + j_1]];
        if (_625)
        {
            weight = exp(weight - top);
        }
        if (_633)
        {
            float param_2 = weight;
            weight = sigmoid(param_2);
        }
        v_216.weights->v[(row * K) + j_1] = weight;
        sum += weight;
    }
    float by = v_216.factor / (_658 ? sum : 1.0);
    if (NORM)
    {
        float _669;
        if (_668)
        {
            _669 = v_216.norm_min * sum;
        }
        else
        {
            _669 = v_216.norm_min;
        }
        by = v_216.factor / fast::max(sum, _669);
    }
    for (uint j_2 = 0u; j_2 < K; j_2++)
    {
        uint _696 = (row * K) + j_2;
        v_216.weights->v[_696] *= by;
    }
}

