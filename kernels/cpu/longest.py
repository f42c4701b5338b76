"""From left to right the longest token, by a trie of tokens."""

from jitllm.kernels.cpu.inline import inline
from jitllm.kernels.cpu.trie import child
from jitllm.kernels.simd import load_i32, load_i64, load_u8, store_i32, store_i64


@inline
def _longest(text, end, table, mask, tokens):
    """Return the longest token at `text`, -1 for none, and its end."""
    node, token, stop = 0, -1, text
    while text < end and node >= 0:
        node = child(table, mask, node, load_u8(text))
        text += 1
        if node >= 0 and load_i32(tokens + 4 * node) >= 0:
            token, stop = load_i32(tokens + 4 * node), text
    return token, stop


def longest(*, whole):
    """Make the kernel that covers words by longest tokens; one thread.

    With `whole` a word that does not come out is one -1, without it one stands for each byte where
    no token begins. Words: text ends n_words table mask tokens ids count. `ends` are int64 offsets
    of the words, `tokens` int32 ids of nodes (-1: none). `ids` int32, one for each byte at most,
    gets the tokens, `count` how many.
    """

    def kernel(args, thread, n_threads, counter):
        text, ends, n_words = load_i64(args + 8), load_i64(args + 16), load_i64(args + 24)
        table, mask, tokens = load_i64(args + 32), load_i64(args + 40), load_i64(args + 48)
        ids, total, at = load_i64(args + 56), 0, text
        for word in range(n_words):
            end, first = text + load_i64(ends + 8 * word), total
            while at < end:
                token, stop = _longest(at, end, table, mask, tokens)
                if token < 0 and whole:
                    total, stop = first, end
                store_i32(ids + 4 * total, token)
                at = max(stop, at + 1)
                total += 1
        store_i64(load_i64(args + 64), total)

    return kernel
