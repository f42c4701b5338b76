// Writes keys and values of a run's rows to the pages of a layer: for each head keys [items, 64],
// then values [64, items]; items are numbers, or bytes of blocks.
#version 450
#include "common.glsl"
#include "caches.glsl"
layout(local_size_x = 64) in;
layout(constant_id = 0) const uint KEYS = 0;
layout(constant_id = 1) const uint VALUES = 0;
layout(push_constant) uniform Arguments {
    Run run;
    F32 k, v;
    uint64_t pages;
    uint ldk, ldv, heads, dk, dv, head_bytes, key_bytes, page_bytes, cache, n_caches;
};
const uint ROOM = KEYS >= Q8_0 ? 1024 : 64;
#include "hadamard.glsl"
#include "blocks.glsl"

// Blocks of 64 of the n numbers of a row; see `write`. Of a matrix with more columns, the workgroup
// of the first 64 does all.
void write_blocks(uint type, F32 x, uint from, uint unit, uint n, uint width, uint64_t at,
                  uint step, uint size) {
    uint lane = gl_LocalInvocationID.x, start = 64 * unit, span = max(size, 64);
    if (start % span != 0) return;
    for (uint i = lane; i < span; i += 64) numbers[i] = start + i < n ? x.v[from + start + i] : 0;
    rotate(0, span, size);
    barrier();
    for (uint i = lane; i < span && start + i < n; i += 64) {
        uint first = i - i % 32, c = start + first;
        Coding coding = coding_of(type, first);
        U8 block = U8(at + c / width * head_bytes + c % width / 32 * block_bytes(type) * step);
        for (uint j = i % 32; j < block_bytes(type); j += 32)
            block.v[j * step] = uint8_t(byte_of(type, coding, first, j));
    }
    barrier();
}

// 64 of the n numbers of a row. Heads have `width`; their first items lie head_bytes apart from
// `at` on, and further ones `step` items.
void write(uint type, F32 x, uint from, uint unit, uint n, uint width, uint64_t at, uint step,
           uint size) {
    uint i = 64 * unit + gl_LocalInvocationID.x;
    if (has_blocks(type)) write_blocks(type, x, from, unit, n, width, at, step, size);
    else if (i < n)
        store_number(type, at + i / width * head_bytes, i % width * step, x.v[from + i]);
}

void main() {
    uint unit = group_of_row(), row = gl_WorkGroupID.y;
    if (row >= run.n_tokens) return;
    uint segment = segment_of(run, row), position = uint(position_of(run, segment, row));
    uint64_t page = page_of(run, segment, n_caches, cache, position / PAGE, pages, page_bytes);
    uint cell = position % PAGE, of_keys = heads * dk, of_values = heads * dv;
    if (64 * unit < of_keys)
        write(KEYS, k, row * ldk, unit, of_keys, dk, page + cell * item_bytes(KEYS), PAGE,
              hadamard_of_keys(KEYS, dk));
    // values end where the workgroups do: keys and values may both have half of one
    uint before = (of_keys + of_values + 63) / 64 - (of_values + 63) / 64;
    if (unit >= before)
        write(VALUES, v, row * ldv, unit - before, of_values, dv,
              page + key_bytes + cell * row_bytes(VALUES, dv), 1, hadamard_of_values(VALUES, dv));
}
