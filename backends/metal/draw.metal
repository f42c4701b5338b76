// Made by backends/_metal_shaders.py of vulkan/draw.comp: change that file.
#pragma clang diagnostic ignored "-Wmissing-prototypes"

#include <metal_stdlib>
#include <simd/simd.h>

using namespace metal;

struct U32;
struct I32;

struct Arguments
{
    device U32* rows;
    device I32* found;
    device U32* draws;
    device I32* drawn;
    uint k;
    uint n_vocab;
    uint draw_bytes;
};

struct U32
{
    uint v[1];
};

struct I32
{
    int v[1];
};

constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(128u, 1u, 1u);

static inline __attribute__((always_inline))
uint lane(thread uint3& gl_LocalInvocationID)
{
    return gl_LocalInvocationID.x;
}

static inline __attribute__((always_inline))
bool is_finite(thread const float& v)
{
    return (as_type<uint>(v) & 2147483647u) < 2139095040u;
}

static inline __attribute__((always_inline))
void share(thread const float& v, thread uint3& gl_LocalInvocationID, threadgroup float (&room)[128])
{
    threadgroup_barrier(mem_flags::mem_threadgroup);
    room[lane(gl_LocalInvocationID)] = v;
    threadgroup_barrier(mem_flags::mem_threadgroup);
}

static inline __attribute__((always_inline))
void arrange(thread const float& key, thread uint3& gl_LocalInvocationID, threadgroup float (&room)[128], thread uint& n, thread float& x, threadgroup int (&ids)[128], thread int& token)
{
    float param = key;
    share(param, gl_LocalInvocationID, room);
    uint at = lane(gl_LocalInvocationID);
    if (at < n)
    {
        at = 0u;
        for (uint i = 0u; i < n; i++)
        {
            bool _345 = room[i] < key;
            bool _360;
            if (!_345)
            {
                bool _353 = room[i] == key;
                bool _359;
                if (_353)
                {
                    _359 = i < lane(gl_LocalInvocationID);
                }
                else
                {
                    _359 = _353;
                }
                _360 = _359;
            }
            else
            {
                _360 = _345;
            }
            if (_360)
            {
                at++;
            }
        }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    room[at] = x;
    ids[at] = token;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    x = room[lane(gl_LocalInvocationID)];
    token = ids[lane(gl_LocalInvocationID)];
}

static inline __attribute__((always_inline))
float largest(thread uint3& gl_LocalInvocationID, threadgroup float (&room)[128], thread uint& n, thread float& x)
{
    float param = x;
    share(param, gl_LocalInvocationID, room);
    float top = as_type<float>(0xff800000u /* -inf */);
    for (uint i = 0u; i < n; i++)
    {
        top = fast::max(top, room[i]);
    }
    return top;
}

static inline __attribute__((always_inline))
float exp_(thread const float& v)
{
    int k = int((fast::max(v, -87.3000030517578125) * 1.44269502162933349609375) - 0.5);
    float r = fma(float(k), 0.00021219444170128554105758666992188, fma(float(k), -0.693359375, v));
    float p = fma(fma(fma(0.0013814601115882396697998046875, r, 0.00836871564388275146484375), r, 0.0416683889925479888916015625), r, 0.16666521131992340087890625);
    p = fma(fma(p, r, 0.499999940395355224609375), r * r, r) + 1.0;
    float _129;
    if (v >= (-87.3000030517578125))
    {
        _129 = as_type<float>(as_type<uint>(p) + (uint(k) << uint(23)));
    }
    else
    {
        _129 = 0.0;
    }
    return _129;
}

static inline __attribute__((always_inline))
float sum(threadgroup float (&room)[128], thread uint& n)
{
    float total = 0.0;
    for (uint i = 0u; i < n; i++)
    {
        total += room[i];
    }
    return total;
}

static inline __attribute__((always_inline))
float weigh(thread const float& top, thread const float& by, thread uint3& gl_LocalInvocationID, threadgroup float (&room)[128], thread uint& n, thread float& x)
{
    float param = x - top;
    float param_1 = exp_(param) / by;
    share(param_1, gl_LocalInvocationID, room);
    return sum(room, n);
}

static inline __attribute__((always_inline))
uint reaching(thread const float& bound, thread const bool& above, threadgroup float (&room)[128], thread uint& n)
{
    float total = 0.0;
    uint i = 0u;
    for (;;)
    {
        bool _294 = i < n;
        bool _312;
        if (_294)
        {
            bool _302 = (total < bound) || (i == 0u);
            bool _311;
            if (!_302)
            {
                _311 = above && (total == bound);
            }
            else
            {
                _311 = _302;
            }
            _312 = _311;
        }
        else
        {
            _312 = _294;
        }
        if (_312)
        {
            uint _313 = i;
            i = _313 + uint(1);
            total += room[_313];
            continue;
        }
        else
        {
            break;
        }
    }
    return i;
}

static inline __attribute__((always_inline))
uint first(thread const float& top, threadgroup float (&room)[128], thread uint& n)
{
    uint i = 0u;
    for (;;)
    {
        bool _395 = (i + 1u) < n;
        bool _403;
        if (_395)
        {
            _403 = room[i] != top;
        }
        else
        {
            _403 = _395;
        }
        if (_403)
        {
            i++;
            continue;
        }
        else
        {
            break;
        }
    }
    return i;
}

static inline __attribute__((always_inline))
void keep(thread const uint& count, thread const uint& least, thread uint& n)
{
    n = min(max(count, least), n);
}

static inline __attribute__((always_inline))
void top_p(thread const float& p, thread const uint& least, thread uint3& gl_LocalInvocationID, threadgroup float (&room)[128], thread uint& n, thread float& x)
{
    float _415 = largest(gl_LocalInvocationID, room, n, x);
    float top = _415;
    float param = top;
    float param_1 = 1.0;
    float _419 = weigh(param, param_1, gl_LocalInvocationID, room, n, x);
    float param_2 = top;
    float param_3 = _419;
    float _423 = weigh(param_2, param_3, gl_LocalInvocationID, room, n, x);
    float param_4 = p;
    bool param_5 = false;
    uint param_6 = reaching(param_4, param_5, room, n);
    uint param_7 = least;
    keep(param_6, param_7, n);
}

static inline __attribute__((always_inline))
float log_(thread const float& v)
{
    if (v < 1.1754943508222875079687365372222e-38)
    {
        return as_type<float>(0xff800000u /* -inf */);
    }
    uint bits = as_type<uint>(v);
    float m = as_type<float>((bits & 8388607u) | 1065353216u);
    float k = float(int(bits >> uint(23)) - 127);
    if (m > 1.41421353816986083984375)
    {
        m *= 0.5;
        k += 1.0;
    }
    float s = (m - 1.0) / (m + 1.0);
    float z = s * s;
    float p = fma(fma(fma(0.22222222387790679931640625, z, 0.2857142984867095947265625), z, 0.4000000059604644775390625), z, 0.666666686534881591796875);
    return fma(k, 0.693359375, fma(k, -0.00021219444170128554105758666992188, fma(p * z, s, s + s)));
}

static inline __attribute__((always_inline))
void typical_p(thread const float& p, thread const uint& least, thread uint3& gl_LocalInvocationID, threadgroup float (&room)[128], thread uint& n, thread float& x, threadgroup int (&ids)[128], thread int& token)
{
    float _434 = largest(gl_LocalInvocationID, room, n, x);
    float top = _434;
    float param = top;
    float param_1 = 1.0;
    float _439 = weigh(param, param_1, gl_LocalInvocationID, room, n, x);
    float total = _439;
    float param_2 = x - top;
    float own = exp_(param_2) / total;
    float param_3 = own;
    float surprise = -log_(param_3);
    float _455;
    if (own > 0.0)
    {
        _455 = own * surprise;
    }
    else
    {
        _455 = 0.0;
    }
    float param_4 = _455;
    share(param_4, gl_LocalInvocationID, room);
    float param_5 = abs(surprise - sum(room, n));
    arrange(param_5, gl_LocalInvocationID, room, n, x, ids, token);
    float param_6 = top;
    float param_7 = total;
    float _475 = weigh(param_6, param_7, gl_LocalInvocationID, room, n, x);
    float param_8 = p;
    bool param_9 = true;
    uint param_10 = reaching(param_8, param_9, room, n);
    uint param_11 = least;
    keep(param_10, param_11, n);
}

static inline __attribute__((always_inline))
void min_p(thread const float& log_p, thread const uint& least, thread uint3& gl_LocalInvocationID, threadgroup float (&room)[128], thread uint& n, thread float& x, threadgroup int (&ids)[128], thread int& token, thread bool& is_sorted)
{
    float _487 = largest(gl_LocalInvocationID, room, n, x);
    float outside = float((x >= (_487 + log_p)) ? 0 : 1);
    float param = outside;
    share(param, gl_LocalInvocationID, room);
    uint kept = n - uint(sum(room, n));
    if (!is_sorted)
    {
        float _511;
        if (kept < least)
        {
            _511 = -x;
        }
        else
        {
            _511 = outside;
        }
        float param_1 = _511;
        arrange(param_1, gl_LocalInvocationID, room, n, x, ids, token);
    }
    is_sorted = is_sorted || (kept < least);
    uint param_2 = kept;
    uint param_3 = least;
    keep(param_2, param_3, n);
}

static inline __attribute__((always_inline))
void top_n_sigma(thread const float& times, thread uint3& gl_LocalInvocationID, threadgroup float (&room)[128], thread uint& n, thread float& x)
{
    float _532 = largest(gl_LocalInvocationID, room, n, x);
    float top = _532;
    bool possible = x > as_type<float>(0xff800000u /* -inf */);
    float param = float(int(possible));
    share(param, gl_LocalInvocationID, room);
    float count = sum(room, n);
    float param_1 = possible ? x : 0.0;
    share(param_1, gl_LocalInvocationID, room);
    float off = x - (sum(room, n) / count);
    float _555;
    if (possible)
    {
        _555 = off * off;
    }
    else
    {
        _555 = 0.0;
    }
    float param_2 = _555;
    share(param_2, gl_LocalInvocationID, room);
    if (x < (top - (times * sqrt(sum(room, n) / count))))
    {
        x = as_type<float>(0xff800000u /* -inf */);
    }
}

kernel void main0(constant Arguments& _598 [[buffer(0)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float room[128];
    threadgroup int ids[128];
    uint row = gl_WorkGroupID.y;
    uint n;
    float x;
    int token;
    bool is_sorted;
    if (row >= _598.rows->v[0])
    {
        return;
    }
    uint at = (2u * _598.k) * row;
    uint _step = (_598.draw_bytes / 4u) * row;
    uint stop = _step + (_598.draw_bytes / 4u);
    uint chosen = 0u;
    n = min(_598.k, _598.n_vocab);
    float _641;
    if (lane(gl_LocalInvocationID) < n)
    {
        _641 = as_type<float>(_598.found->v[(at + _598.k) + lane(gl_LocalInvocationID)]);
    }
    else
    {
        _641 = as_type<float>(0xff800000u /* -inf */);
    }
    x = _641;
    int _662;
    if (lane(gl_LocalInvocationID) < n)
    {
        _662 = _598.found->v[at + lane(gl_LocalInvocationID)];
    }
    else
    {
        _662 = -1;
    }
    token = _662;
    is_sorted = true;
    float top = as_type<float>(_598.found->v[at + _598.k]);
    for (;;)
    {
        bool _692 = _step < stop;
        bool _698;
        if (_692)
        {
            float param = top;
            _698 = is_finite(param);
        }
        else
        {
            _698 = _692;
        }
        if (_698)
        {
            uint kind = _598.draws->v[_step] & 65535u;
            uint least = _598.draws->v[_step] >> uint(16);
            float amount = as_type<float>(_598.draws->v[_step + 1u]);
            if ((kind <= 2u) && (!is_sorted))
            {
                float param_1 = -x;
                arrange(param_1, gl_LocalInvocationID, room, n, x, ids, token);
                is_sorted = true;
            }
            switch (kind)
            {
                case 0u:
                {
                    n = min(n, uint(amount));
                    break;
                }
                case 1u:
                {
                    float param_2 = amount;
                    uint param_3 = least;
                    top_p(param_2, param_3, gl_LocalInvocationID, room, n, x);
                    break;
                }
                case 2u:
                {
                    float param_4 = amount;
                    uint param_5 = least;
                    typical_p(param_4, param_5, gl_LocalInvocationID, room, n, x, ids, token);
                    is_sorted = false;
                    break;
                }
                case 3u:
                {
                    float param_6 = amount;
                    uint param_7 = least;
                    min_p(param_6, param_7, gl_LocalInvocationID, room, n, x, ids, token, is_sorted);
                    break;
                }
                case 4u:
                {
                    if (n > 1u)
                    {
                        float param_8 = amount;
                        top_n_sigma(param_8, gl_LocalInvocationID, room, n, x);
                    }
                    break;
                }
                case 5u:
                {
                    x /= amount;
                    break;
                }
                default:
                {
                    float _779 = largest(gl_LocalInvocationID, room, n, x);
                    top = _779;
                    if (kind == 6u)
                    {
                        float param_9 = top;
                        float param_10 = 1.0;
                        float _788 = weigh(param_9, param_10, gl_LocalInvocationID, room, n, x);
                        float param_11 = _788 * amount;
                        bool param_12 = false;
                        chosen = reaching(param_11, param_12, room, n) - 1u;
                    }
                    if (kind == 7u)
                    {
                        float param_13 = top;
                        chosen = first(param_13, room, n);
                    }
                    stop = _step;
                    break;
                }
            }
            _step += 2u;
            continue;
        }
        else
        {
            break;
        }
    }
    if (lane(gl_LocalInvocationID) == chosen)
    {
        float param_14 = top;
        _598.drawn->v[row] = is_finite(param_14) ? token : (-1);
    }
}

