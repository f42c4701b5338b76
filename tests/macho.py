"""Just enough of the Mach-O format to look into object files of arm64 (64 bits, little-endian)."""

import struct

ARM64 = 0x0100000C  # value of cputype
_MAGIC, _SYMBOL_TABLE = 0xFEEDFACF, 2
_STAB, _TYPE, _UNDEFINED, _EXTERNAL, _PRIVATE = 0xE0, 0x0E, 0, 0x01, 0x10


def machine(code: bytes) -> int:
    """Return the processor number of an object file."""
    magic, kind = struct.unpack_from("<II", code)
    assert magic == _MAGIC
    return int(kind)


def symbols(code: bytes) -> tuple[set[str], set[str]]:
    """Return the names that others may use, and those that must be found elsewhere."""
    (count,) = struct.unpack_from("<I", code, 16)
    at, names, undefined = 32, set[str](), set[str]()
    for _ in range(count):
        command, size = struct.unpack_from("<II", code, at)
        if command == _SYMBOL_TABLE:
            start, n, strings, _ = struct.unpack_from("<4I", code, at + 8)
            for i in range(n):
                name, kind = struct.unpack_from("<IB", code, start + 16 * i)
                text = code[strings + name : code.index(b"\0", strings + name)].decode()
                if kind & _STAB or not kind & _EXTERNAL or kind & _PRIVATE:
                    continue
                (undefined if kind & _TYPE == _UNDEFINED else names).add(text)
        at += size
    return names, undefined
