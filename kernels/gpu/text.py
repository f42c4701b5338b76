"""Changes of the IR that Numba generates for GPU kernels, made on its text."""

import re
from itertools import count

# Called in the head of every loop over `unroll(n)`, or `rolled(n)`.
UNROLL_MARK, ROLLED_MARK = "jit_unroll", "jit_rolled"
_LABEL = re.compile(r"([\w.]+):")
_REQUESTS = {UNROLL_MARK: ("full", 9000), ROLLED_MARK: ("disable", 9002)}


def clean(text: str) -> str:
    """Drop what is the interpreter's or this machine's."""
    text = re.sub(r"^@_ZN08NumbaEnv\S+ = common .*\n", "", text, flags=re.M)
    return re.sub(r"^target .*\n", "", text, flags=re.M)


def number_sites(text: str) -> tuple[str, tuple[str, ...]]:
    """Number the calls that synchronize; returns the functions that they stand in."""
    sites, lines, owner = list[str](), list[str](), ""
    for line in text.split("\n"):
        if line.startswith("define "):
            owner = _readable(line)
        elif re.search(r" call .*@jit_\w+\(i32 -1\b", line):
            line = line.replace("(i32 -1", f"(i32 {len(sites)}", 1)
            sites.append(owner)
        lines.append(line)
    return "\n".join(lines), tuple(sites)


def _readable(define: str) -> str:
    """Return the name of the Python function whose mangled name a line has."""
    match = re.search(r"@_ZN(\d\S*?)B\d+v\d+B", define)
    name, rest = "kernel", match[1] if match else ""
    while digits := re.match(r"\d+", rest):
        start, end = digits.end(), digits.end() + int(digits[0])
        name, rest = rest[start:end], rest[end:]
    return re.sub(r"_([0-9a-f]{2})", lambda code: chr(int(code[1], 16)), name)


# --- memory ------------------------------------------------------------------------------------

_ACCESS = re.compile(
    r"^(  (?:\S+ = load (?P<load>[^,]+)|store (?P<store><[^>]+>|\w+) [^,]+), "
    r"ptr addrspace\((?P<space>\d)\) )(?P<at>\S+)(, align (?P<align>\d+))", re.M
)  # fmt: skip
_STREAM = re.compile(
    r"^  (?P<v>%\S+) = call <4 x i32> @jit_stream_i32x4\(i64 (?P<from>[^)]+)\)", re.M
)
_STREAM_LINES = r"""  \g<v>.from = inttoptr i64 \g<from> to ptr addrspace(1)
  \g<v> = load <4 x i32>, ptr addrspace(1) \g<v>.from, align 16"""
_SOURCE = re.compile(r"%jit_at\.(\w+)\.(\d+)\.")
_DECLARE = "declare ptr addrspace({0}) @jit_place_{0}(ptr addrspace({0}), i64, i64, i64)\n"
_BYTES = {"i8": 1, "i16": 2, "half": 2, "i32": 4, "float": 4, "i64": 8, "double": 8}


def access_sites(text: str) -> tuple[str, ...]:
    """Return the places in the source that load and store, such as `norm.py:33`."""
    found = (match.expand(r"\1.py:\2") for match in _SOURCE.finditer(text))
    return tuple(dict.fromkeys(found))


def check_accesses(text: str, sites: tuple[str, ...]) -> str:
    """Let every load and store ask `jit_place_<address space>` where to go.

    It is told the address, the bytes, the alignment, and twice the number of the place in the
    source (see `access_sites`), plus 1 if it is a store.
    """
    numbers, places = count(), {site: 2 * i for i, site in enumerate(sites)}

    def change(match: re.Match[str]) -> str:
        size = _size_of(match["load"] or match["store"])
        place, pointer = f"%jit.place{next(numbers)}", f"ptr addrspace({match['space']})"
        source = _SOURCE.match(match["at"])
        what = (places[source.expand(r"\1.py:\2")] if source else -2) + bool(match["store"])
        arguments = f"{pointer} {match['at']}, i64 {size}, i64 {match['align']}, i64 {what}"
        call = f"call {pointer} @jit_place_{match['space']}({arguments})"
        return f"  {place} = {call}\n{match[1]}{place}{match[6]}"

    text = _ACCESS.sub(change, _STREAM.sub(_STREAM_LINES, text))
    return text + "".join(
        _DECLARE.format(space) for space in "13" if f"@jit_place_{space}(" in text
    )


def _size_of(kind: str) -> int:
    """Return the bytes of an IR type: a scalar or a vector."""
    vector = re.fullmatch(r"<(\d+) x (\w+)>", kind)
    return int(vector[1]) * _BYTES[vector[2]] if vector else _BYTES[kind]


# --- loops -------------------------------------------------------------------------------------


def request_unrolling(text: str) -> str:
    """Mark loops as to be unrolled, or not, in place of the calls of the marks in them."""
    for mark, (what, number) in _REQUESTS.items():
        if mark not in text:
            continue
        parts = re.split(r"(?<=^}\n)", text, flags=re.M)
        text = "".join(
            _request(part, mark, number) if f"call void @{mark}()" in part else part
            for part in parts
        )
        text = re.sub(rf"^declare void @{mark}\(\).*\n", "", text, flags=re.M)
        text += f"\n!{number} = distinct !{{!{number}, !{number + 1}}}\n"
        text += f'!{number + 1} = !{{!"llvm.loop.unroll.{what}"}}\n'
    return text


def _request(function: str, mark: str, number: int) -> str:
    lines = function.split("\n")
    blocks, marked = _blocks(lines, mark)
    ends = {i for head in marked for i in _jumps_back(blocks, head)}
    lines = [f"{line}, !llvm.loop !{number}" if i in ends else line for i, line in enumerate(lines)]
    return "\n".join(line for line in lines if mark not in line)


def _blocks(lines: list[str], mark: str) -> tuple[dict[str, tuple[int, list[str]]], list[str]]:
    """Return of each block the line that ends it and where that goes, and the marked blocks."""
    blocks, marked, name = dict[str, tuple[int, list[str]]](), list[str](), ""
    for i, line in enumerate(lines):
        if label := _LABEL.match(line):
            name = label[1]
        elif name and re.match(r"  (br|switch|ret|unreachable)\b", line):
            blocks[name] = i, re.findall(r"label %([\w.]+)", line)
        elif name in blocks and (case := re.match(r" +\w+ -?\d+, label %([\w.]+)", line)):
            blocks[name][1].append(case[1])  # of a switch, which has a line for each
        elif mark in line:
            marked.append(name)
    return blocks, marked


def _jumps_back(blocks: dict[str, tuple[int, list[str]]], marked: str) -> list[int]:
    """Return the lines that end a turn of the innermost loop around a block."""
    before: dict[str, list[str]] = {name: [] for name in blocks}
    for name, (_, targets) in blocks.items():
        for target in targets:
            before[target].append(name)
    loops = dict[str, tuple[set[str], list[int]]]()  # by head: blocks, lines that jump back
    for end, head in _retreats(blocks):
        body, lines = loops.setdefault(head, ({head}, []))
        lines.append(blocks[end][0])
        todo = [end]
        while todo:
            if (name := todo.pop()) not in body:
                body.add(name)
                todo += before[name]
    around = [loop for loop in loops.values() if marked in loop[0]]
    return min(around, key=lambda loop: len(loop[0]))[1] if around else []


def _retreats(blocks: dict[str, tuple[int, list[str]]]) -> list[tuple[str, str]]:
    """Return the jumps to a block that is on the way to where they stand."""
    first = next(iter(blocks))
    found, seen, way = list[tuple[str, str]](), {first}, {first: iter(blocks[first][1])}
    while way:
        name = next(reversed(way))
        target = next(way[name], None)
        if target is None:
            del way[name]
        elif target in way:
            found.append((name, target))
        elif target not in seen:
            seen.add(target)
            way[target] = iter(blocks[target][1])
    return found
