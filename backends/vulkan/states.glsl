// States of recurrent layers. A segment reads the state in one slot and leaves it in another; the
// workgroups of its first row take it through all rows, token after token, so that results do not
// depend on how rows are cut into runs.

// The row behind those of a segment that begins at `row`; 0 where none does.
uint end_of_segment(Run run, uint row) {
    if (row >= run.n_tokens) return 0;
    uint segment = segment_of(run, row);
    bool begins = word_of(run, segment, ROW) == int(row);
    return begins ? row + uint(word_of(run, segment, ROWS)) : 0;
}

// Where a segment's state before its rows is, 0 for zeros.
uint64_t state_before(Run run, uint segment, uint64_t states, uint slot_bytes) {
    int slot = word_of(run, segment, STATE_IN);
    return slot < 0 ? 0 : states + uint64_t(slot) * slot_bytes;
}

uint64_t state_behind(Run run, uint segment, uint64_t states, uint slot_bytes) {
    return states + uint64_t(word_of(run, segment, STATE_OUT)) * slot_bytes;
}
