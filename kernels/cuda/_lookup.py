"""What codes stand for: four entries of a table at once."""

from jitllm.kernels.gpu.vocabulary import inline, permute_bytes, to_i32


def lookup(table, added=0):
    """Return f(codes, i): entries plus `added`, bytes, of the codes from bit 4 i on of each byte.

    A permutation of bytes finds four entries among eight. The digits of `codes` are in the order
    of the bytes of both i, which two more permutations put apart.
    """
    entries = [entry + added & 255 for entry in (*table, *[0] * (16 - len(table)))]
    words = [sum(x << 8 * i for i, x in enumerate(entries[j : j + 4])) for j in (0, 4, 8, 12)]
    a, b, c, d = (word - (word >> 31 << 32) for word in words)
    has_upper, picks = len(table) > 8, (0x6420, 0x7531)

    @inline
    def four(places, halves):
        low = permute_bytes(a, b, places)
        return permute_bytes(low, permute_bytes(c, d, places), halves) if has_upper else low

    @inline
    def lookup_four(codes, i):
        places, halves = to_i32(codes & 0x77777777), to_i32(codes >> 1 & 0x44444444 | 0x32103210)
        first, last = four(places, halves), four(to_i32(places >> 16), to_i32(halves >> 16))
        return permute_bytes(first, last, picks[1] if i else picks[0])

    return lookup_four
