// Numbers in shared memory, ROOM of them, times Hadamard matrices, in the order of
// cache_types.rotated.
shared float numbers[ROOM];

// Multiplies each `size` of the `width` numbers from `first` on, by all 64 lanes of a workgroup.
void rotate(uint first, uint width, uint size) {
    if (size == 0) return;
    uint lane = gl_LocalInvocationID.x;
    float factor = 1;
    for (uint left = size; left > 1; left >>= 2) factor *= left == 2 ? 0.70710677 : 0.5;
    for (uint step = 1; step < size; step *= 2) {
        barrier();
        for (uint i = lane; i < width / 2; i += 64) {
            uint at = first + 2 * i - i % step;
            float a = numbers[at], b = numbers[at + step];
            numbers[at] = a + b;
            numbers[at + step] = a - b;
        }
    }
    barrier();
    for (uint i = lane; i < width; i += 64) {
        precise float x = numbers[first + i] * factor;
        numbers[first + i] = x;
    }
    barrier();
}
