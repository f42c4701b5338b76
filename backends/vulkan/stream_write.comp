// Stream s of y = gates[S + s] * x + stream s, or a mix of all streams in place of stream s.
#version 450
#include "common.glsl"
layout(local_size_x = 64) in;
layout(constant_id = 0) const uint S = 4;
layout(constant_id = 1) const bool MIXES = false;
layout(push_constant) uniform Arguments {
    U32 rows;
    F32 x, streams, gates, y;
    uint ldx, lds, ldg, ldy, width;
};

void main() {
    uint i = column(), row = gl_WorkGroupID.y;
    if (row >= rows.v[0] || i >= S * width) return;
    uint target = i / width, at = i % width;
    float kept = 0;
    if (MIXES) {
        for (uint s = 0; s < S; s++)
            kept += streams.v[row * lds + s * width + at]
                    * gates.v[row * ldg + 2 * S + s * S + target];
    } else {
        kept = streams.v[row * lds + i];
    }
    y.v[row * ldy + i] = kept + x.v[row * ldx + at] * gates.v[row * ldg + S + target];
}
