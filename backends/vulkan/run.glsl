// What a run says of its rows, and where the pages of its caches are.
const uint PAGE = 64;

// What a run says of a segment; tables are offsets into the page numbers, one for each cache.
layout(buffer_reference, std430, buffer_reference_align = 4) buffer Segments {
    int v[];  // [S, 8]: row, rows, position, n_cross, state_in, state_out, tables, 0
};

layout(buffer_reference, std430, buffer_reference_align = 8) buffer Run {
    uint n_tokens, n_outputs;
    uint64_t segments, tables;  // tables: [S, caches, 2] offset and length, then page numbers
    uint64_t row_segments;      // [T] the segment of each row
};

uint64_t page_of(Run run, uint segment, uint n_caches, uint cache, uint block, uint64_t pages,
                 uint page_bytes) {
    U32 tables = U32(run.tables);
    uint entry = (segment * n_caches + cache) * 2;
    uint page = tables.v[tables.v[entry] + block % tables.v[entry + 1]];
    return pages + uint64_t(page) * page_bytes;
}

uint segment_of(Run run, uint row) { return U32(run.row_segments).v[row]; }

const uint ROW = 0, ROWS = 1, POSITION = 2, N_CROSS = 3, STATE_IN = 4, STATE_OUT = 5;

int word_of(Run run, uint segment, uint word) {
    return Segments(run.segments).v[segment * 8 + word];
}

int position_of(Run run, uint segment, uint row) {
    return word_of(run, segment, POSITION) + int(row) - word_of(run, segment, ROW);
}
