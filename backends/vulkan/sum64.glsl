// Sum and maximum over a workgroup of 64 lanes, the same for all of them.
shared float lanes[64];

float sum64(float x) {
    uint lane = gl_LocalInvocationID.x;
    lanes[lane] = x;
    for (uint step = 32; step > 0; step >>= 1) {
        barrier();
        if (lane < step) lanes[lane] += lanes[lane + step];
    }
    barrier();
    float total = lanes[0];
    barrier();
    return total;
}

float max64(float x) {
    uint lane = gl_LocalInvocationID.x;
    lanes[lane] = x;
    for (uint step = 32; step > 0; step >>= 1) {
        barrier();
        if (lane < step) lanes[lane] = max(lanes[lane], lanes[lane + step]);
    }
    barrier();
    float top = lanes[0];
    barrier();
    return top;
}
