"""The cover of a text by tokens with the best sum of scores: Viterbi over a trie (Kudo, 2018)."""

from jitllm.kernels.cpu.inline import inline
from jitllm.kernels.cpu.trie import child
from jitllm.kernels.simd import (
    load_f64,
    load_i32,
    load_i64,
    load_u8,
    store_f64,
    store_i32,
    store_i64,
)


@inline
def _char_bytes(first):
    """Return the bytes of the character that begins with this one; 1 for a stray one."""
    if first >= 0xF0:
        return 4
    if first >= 0xE0:
        return 3
    return 2 if first >= 0xC0 else 1


def unigram(args, thread, n_threads, counter):
    """Find the best cover of a text; one thread.

    Words: text n table mask tokens values unknown unknown_score sums starts chosen ids count.
    `tokens` int32 and `values` float64 hold the id (-1: none) and the score of each node. `sums`
    float64 (set to -inf, the first to 0), `starts` and `chosen` int32, all [n + 1], are work
    memory: the best sum up to an end, where its last token begins, its id. Of equal sums the one
    whose last token begins first is kept. `ids` int32 [n] gets the cover from its end to its
    beginning, `count` the number of tokens.
    """
    text, n = load_i64(args + 8), load_i64(args + 16)
    table, mask = load_i64(args + 24), load_i64(args + 32)
    tokens, values = load_i64(args + 40), load_i64(args + 48)
    unknown, unknown_score = load_i64(args + 56), load_f64(args + 64)
    sums, starts, chosen = load_i64(args + 72), load_i64(args + 80), load_i64(args + 88)
    start = 0
    while start < n:
        before = load_f64(sums + 8 * start)
        following = min(start + _char_bytes(load_u8(text + start)), n)
        is_alone = False
        node, end = 0, start
        while end < n:
            node = child(table, mask, node, load_u8(text + end))
            if node < 0:
                break
            end += 1
            token = load_i32(tokens + 4 * node)
            if token >= 0:
                is_alone = is_alone or end == following
                score = load_f64(values + 8 * node) + before
                if score > load_f64(sums + 8 * end):
                    store_f64(sums + 8 * end, score)
                    store_i32(starts + 4 * end, start)
                    store_i32(chosen + 4 * end, token)
        score = before + unknown_score
        if not is_alone and score > load_f64(sums + 8 * following):
            store_f64(sums + 8 * following, score)
            store_i32(starts + 4 * following, start)
            store_i32(chosen + 4 * following, unknown)
        start = following
    end, n_ids, ids = n, 0, load_i64(args + 96)
    while end > 0:
        store_i32(ids + 4 * n_ids, load_i32(chosen + 4 * end))
        end = load_i32(starts + 4 * end)
        n_ids += 1
    store_i64(load_i64(args + 104), n_ids)
