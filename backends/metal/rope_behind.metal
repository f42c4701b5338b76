// Made by backends/_metal_shaders.py of vulkan/rope_behind.comp: change that file.
#pragma clang diagnostic ignored "-Wmissing-prototypes"

#include <metal_stdlib>
#include <simd/simd.h>

using namespace metal;

struct U32;
struct I32;
struct F32;

struct Arguments
{
    device U32* rows;
    device I32* positions;
    device F32* x;
    device F32* frequencies;
    device F32* y;
    uint ldx;
    uint ldy;
    uint width;
    uint head_dim;
    uint start;
    uint n_rot;
    uint behind;
    float magnitude;
};

struct U32
{
    uint v[1];
};

struct I32
{
    int v[1];
};

struct F32
{
    float v[1];
};

#ifndef SPIRV_CROSS_CONSTANT_ID_0
#define SPIRV_CROSS_CONSTANT_ID_0 false
#endif
constant bool NEOX = SPIRV_CROSS_CONSTANT_ID_0;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(64u, 1u, 1u);

static inline __attribute__((always_inline))
uint group_of_row(thread uint3& gl_WorkGroupID, thread uint3& gl_NumWorkGroups)
{
    return gl_WorkGroupID.x + (gl_WorkGroupID.z * gl_NumWorkGroups.x);
}

static inline __attribute__((always_inline))
uint column(thread uint3& gl_WorkGroupID, thread uint3& gl_NumWorkGroups, thread uint3& gl_LocalInvocationID)
{
    return (group_of_row(gl_WorkGroupID, gl_NumWorkGroups) * 64u) + gl_LocalInvocationID.x;
}

static inline __attribute__((always_inline))
void turn(thread const float& angle, thread float& cosine, thread float& sine)
{
    int quarters = int((angle * 0.636619746685028076171875) + 0.5);
    float k = float(quarters);
    float r = angle - (k * 1.5703125);
    r = (r - (k * 0.0004837512969970703125)) - (k * 7.5497901264043321134522557258606e-08);
    float z = r * r;
    float s = r + ((r * z) * ((-0.16666655242443084716796875) + (z * (0.00833216123282909393310546875 - (z * 0.00019515295571181923151016235351562)))));
    float c = (1.0 - (0.5 * z)) + ((z * z) * (0.0416666455566883087158203125 + (z * ((-0.00138873164542019367218017578125) + (z * 2.4433156795566901564598083496094e-05)))));
    bool swapped = (quarters & 1) == 1;
    float _122;
    if (swapped)
    {
        _122 = -s;
    }
    else
    {
        _122 = c;
    }
    cosine = _122;
    sine = swapped ? c : s;
    if ((quarters & 2) == 0)
    {
        return;
    }
    cosine = -cosine;
    sine = -sine;
}

kernel void main0(constant Arguments& _165 [[buffer(0)]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]], uint3 gl_NumWorkGroups [[threadgroups_per_grid]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]])
{
    uint i = column(gl_WorkGroupID, gl_NumWorkGroups, gl_LocalInvocationID);
    uint row = gl_WorkGroupID.y;
    uint half_rot = _165.n_rot / 2u;
    uint from = (row * _165.ldx) + i;
    bool _186 = row >= _165.rows->v[0];
    bool _195;
    if (!_186)
    {
        _195 = i >= _165.width;
    }
    else
    {
        _195 = _186;
    }
    if (_195)
    {
        return;
    }
    float own = _165.x->v[from];
    uint at = (i % _165.head_dim) - _165.start;
    if (at < _165.n_rot)
    {
        bool _225;
        if (NEOX)
        {
            _225 = at < half_rot;
        }
        else
        {
            _225 = (at & 1u) == 0u;
        }
        bool first = _225;
        uint _237;
        if (NEOX)
        {
            _237 = at % half_rot;
        }
        else
        {
            _237 = at / 2u;
        }
        uint pair = _237;
        uint step_ = NEOX ? half_rot : 1u;
        int position = max(0, (_165.positions->v[row] - int(_165.behind)));
        float param = float(position) * _165.frequencies->v[pair];
        float param_1;
        float param_2;
        turn(param, param_1, param_2);
        float cosine = param_1;
        float sine = param_2;
        cosine *= _165.magnitude;
        sine *= _165.magnitude;
        if (first)
        {
            own = (own * cosine) - (_165.x->v[from + step_] * sine);
        }
        else
        {
            own = (_165.x->v[from - step_] * sine) + (own * cosine);
        }
    }
    _165.y->v[(row * _165.ldy) + i] = own;
}

