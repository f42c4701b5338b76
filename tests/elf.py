"""Just enough of the ELF format to look into object files (64 bits, little-endian)."""

import struct
from collections.abc import Iterator

ARM = 183  # values of e_machine
X86 = 62
_SYMBOL_TABLE, _UNDEFINED = 2, 0


def machine(code: bytes) -> int:
    """Return the processor number of an object file."""
    assert code[:6] == b"\x7fELF\x02\x01"
    return int(struct.unpack_from("<H", code, 18)[0])


def _sections(code: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yield (type, link, start, size) of every section."""
    (at,) = struct.unpack_from("<Q", code, 40)
    size, n = struct.unpack_from("<HH", code, 58)
    for i in range(n):
        _, kind, _, _, start, length, link = struct.unpack_from("<IIQQQQI", code, at + i * size)
        yield kind, link, start, length


def undefined(code: bytes) -> set[str]:
    """Return the names that the loader must find elsewhere."""
    sections, names = list(_sections(code)), set()
    for kind, link, start, size in sections:
        if kind != _SYMBOL_TABLE:
            continue
        text = code[sections[link][2] : sections[link][2] + sections[link][3]]
        for at in range(start + 24, start + size, 24):  # the first entry is empty
            name, _, _, section = struct.unpack_from("<IBBH", code, at)
            if section == _UNDEFINED:
                names.add(text[name : text.index(b"\0", name)].decode())
    return names
