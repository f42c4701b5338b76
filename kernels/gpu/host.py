"""GPU kernels as machine code of this processor: what the simulator runs.

All that a simulated GPU knows is in words of `jitllm.kernels.cpu.fiber_layout`. A thread that must
wait tells `jitllm.kernels.cpu.fibers`, learns who goes on, and changes over to the stack of that
one. What one thread says to others goes through the scratch memory.
"""

import re
import sys

import llvmlite.binding as llvm

from jitllm.kernels import jit
from jitllm.kernels import level as levels
from jitllm.kernels.cpu import fiber_layout as layout
from jitllm.kernels.gpu import stacks as gpu_stacks
from jitllm.kernels.gpu.neutral import ENTRY, Neutral, parse
from jitllm.kernels.gpu.ptx import optimize
from jitllm.kernels.gpu.text import check_accesses

ENTRIES = ("begin", "thread", "fiber", "poison", "arrays")
_TYPES = {"A": "i64", "U": "i32", "F": "float"}


def generate(neutral: Neutral, symbol: str) -> bytes:
    """Return the object file of a kernel; its functions are `<symbol>:<one of ENTRIES>`.

    `begin(state)` comes first; `thread` runs the current thread, `fiber` does so on a stack of its
    own and then goes on with the next; `poison` fills the shared memory with 0xFF; `arrays`
    writes where each shared array begins and ends.

    Raises
    ------
    ValueError
        If kernels cannot be simulated here; see `require`.
    """
    require()
    unit, machine = parse(check_accesses(neutral.text, neutral.accesses)), jit.machine()
    unit.triple, unit.data_layout = machine.triple, str(machine.target_data)
    for array in unit.global_variables:
        array.linkage = llvm.Linkage.external  # until the prelude has found them
    prelude = parse(_PRELUDE + _entries(neutral, symbol) + _products())
    prelude.triple, prelude.data_layout = unit.triple, unit.data_layout
    unit.link_in(prelude)
    for function in unit.functions:
        if not function.is_declaration and not function.name.startswith(symbol):
            function.linkage = llvm.Linkage.internal
    for array in unit.global_variables:
        array.linkage = llvm.Linkage.internal
    optimize(unit, machine)
    return bytes(machine.emit_object(unit))


def require() -> None:
    """Raise `ValueError` with the reason if kernels cannot be simulated here."""
    levels.require()
    if sys.platform == "win32" or not gpu_stacks.is_possible():
        raise ValueError("threads are simulated on Linux and macOS, on x86-64 and ARM64 processors")
    if not levels.current().half:
        raise ValueError("simulated kernels need a processor that converts float16")
    if llvm.llvm_version_info < (17, 0, 0):  # pointers had types
        raise ValueError("simulated kernels need llvmlite 0.45 or newer")


# --- what kernels call -------------------------------------------------------------------------


def _entries(neutral: Neutral, symbol: str) -> str:
    """Return the functions that the simulator calls."""
    lines, passed, kinds, at = list[str](), list[str](), list[str](), 0
    for i, letter in enumerate(neutral.parameters):
        kind = _TYPES[letter]
        lines.append(f"  %a{i} = getelementptr i8, ptr %block, i64 {at}")
        lines.append(f"  %v{i} = load {kind}, ptr %a{i}, align 4")
        if letter == "U":
            lines.append(f"  %w{i} = zext i32 %v{i} to i64")
        kinds.append("float" if letter == "F" else "i64")
        passed.append(f"{kinds[-1]} %{'w' if letter == 'U' else 'v'}{i}")
        at += 8 if letter == "A" else 4
    arrays = re.findall(r"^@(jit_shared\S*) = .*\[(\d+) x i8\]", neutral.text, re.M)
    fills = [f"  call void @llvm.memset.p3.i64(ptr addrspace(3) @{name}, i8 -1, i64 {size}, i1 0)"
             for name, size in arrays]  # fmt: skip
    bounds = [
        f"  %s{i} = ptrtoint ptr addrspace(3) @{name} to i64\n  %e{i} = add i64 %s{i}, {size}\n"
        f"  %p{i} = getelementptr i64, ptr %out, i64 {2 * i}\n  store i64 %s{i}, ptr %p{i}\n"
        f"  %q{i} = getelementptr i64, ptr %p{i}, i64 1\n  store i64 %e{i}, ptr %q{i}"
        for i, (name, size) in enumerate(arrays)
    ]
    declared = [f"@{name} = external addrspace(3) global [{size} x i8]" for name, size in arrays]
    return "\n".join([
        f"declare void @{ENTRY}({', '.join(kinds)})",
        *declared,
        f'define void @"{symbol}:begin"(ptr %state) {{\n  store ptr %state, ptr @jit_state',
        "  ret void\n}",
        f'define i64 @"{symbol}:thread"(i64 %unused) {{',
        f"  %block = call ptr @jit_pointer(i64 {layout.ARGUMENTS})",
        *lines,
        f"  call void @{ENTRY}({', '.join(passed)})\n  ret i64 0\n}}",
        f'define void @"{symbol}:fiber"() {{\n  %1 = call i64 @"{symbol}:thread"(i64 0)',
        f"  call void @jit_wait(i64 {layout.ENDED}, i32 -1)\n  unreachable\n}}",
        f'define i64 @"{symbol}:poison"(i64 %unused) {{',
        *fills,
        f'  ret i64 0\n}}\ndefine i64 @"{symbol}:arrays"(ptr %out) {{',
        *bounds,
        "  ret i64 0\n}",
    ])  # fmt: skip


_PRELUDE = f"""
@jit_state = internal global ptr null
declare void @llvm.memset.p3.i64(ptr addrspace(3), i8, i64, i1)
declare float @llvm.maxnum.f32(float, float)
define i64 @jit_word(i64 %i) alwaysinline {{
  %state = load ptr, ptr @jit_state
  %at = getelementptr i64, ptr %state, i64 %i
  %word = load i64, ptr %at
  ret i64 %word
}}
define ptr @jit_pointer(i64 %i) alwaysinline {{
  %word = call i64 @jit_word(i64 %i)
  %pointer = inttoptr i64 %word to ptr
  ret ptr %pointer
}}
define ptr @jit_record(i64 %word) alwaysinline {{
  %records = call ptr @jit_pointer(i64 {layout.RECORDS})
  %thread = call i64 @jit_word(i64 {layout.THREAD})
  %record = mul i64 %thread, {layout.RECORD_WORDS}
  %i = add i64 %record, %word
  %at = getelementptr i64, ptr %records, i64 %i
  ret ptr %at
}}
define void @jit_wait(i64 %kind, i32 %site) noinline {{
  %state = load ptr, ptr @jit_state
  %advance = call ptr @jit_pointer(i64 {layout.ADVANCE})
  %switch = call ptr @jit_pointer(i64 {layout.SWITCH})
  %own = call ptr @jit_record(i64 {layout.STACK})
  %where = sext i32 %site to i64
  %address = ptrtoint ptr %state to i64
  %next = call i64 %advance(i64 %address, i64 %kind, i64 %where)
  %load = inttoptr i64 %next to ptr
  call void %switch(ptr %own, ptr %load)
  ret void
}}
define void @jit_sync_threads(i32 %site) alwaysinline {{
  call void @jit_wait(i64 {layout.FOR_GROUP}, i32 %site)
  ret void
}}
define void @jit_sync_warp(i32 %site) alwaysinline {{
  call void @jit_wait(i64 {layout.FOR_WARP}, i32 %site)
  ret void
}}
; Where the warp's words of the other half of the scratch are; makes it the current one.
define ptr @jit_turn() {{
  %at = call ptr @jit_record(i64 {layout.HALF})
  %half = load i64, ptr %at
  %other = xor i64 %half, 1
  store i64 %other, ptr %at
  %scratch = call ptr @jit_pointer(i64 {layout.SCRATCH})
  %thread = call i64 @jit_word(i64 {layout.THREAD})
  %warp = and i64 %thread, {-layout.WARP}
  %bytes = mul i64 %other, {layout.HALF_BYTES}
  %start = getelementptr i8, ptr %scratch, i64 %bytes
  %words = getelementptr i32, ptr %start, i64 %warp
  ret ptr %words
}}
define ptr @jit_lane(ptr %words) alwaysinline {{
  %thread = call i64 @jit_word(i64 {layout.THREAD})
  %lane = and i64 %thread, {layout.WARP - 1}
  %at = getelementptr i32, ptr %words, i64 %lane
  ret ptr %at
}}
define ptr @jit_tell(i32 %site, i32 %x) {{
  %words = call ptr @jit_turn()
  %at = call ptr @jit_lane(ptr %words)
  store i32 %x, ptr %at
  call void @jit_wait(i64 {layout.FOR_WORDS}, i32 %site)
  ret ptr %words
}}
define i32 @jit_shuffle(i32 %site, i32 %x, i32 %which) {{
  %words = call ptr @jit_tell(i32 %site, i32 %x)
  %lane = and i32 %which, {layout.WARP - 1}
  %at = getelementptr i32, ptr %words, i32 %lane
  %y = load i32, ptr %at
  ret i32 %y
}}
define i32 @jit_shuffle_xor(i32 %site, i32 %x, i32 %mask) {{
  %thread = call i64 @jit_word(i64 {layout.THREAD})
  %low = trunc i64 %thread to i32
  %which = xor i32 %low, %mask
  %y = call i32 @jit_shuffle(i32 %site, i32 %x, i32 %which)
  ret i32 %y
}}
define float @jit_ex2(float %x) alwaysinline {{
  %function = call ptr @jit_pointer(i64 {layout.EXP2})
  %y = call float %function(float %x)
  ret float %y
}}
declare i32 @llvm.fptosi.sat.i32.f32(float)
define i32 @jit_to_i32(float %x) alwaysinline {{
  %y = call i32 @llvm.fptosi.sat.i32.f32(float %x)
  ret i32 %y
}}
declare i32 @llvm.vector.reduce.add.v4i32(<4 x i32>)
declare i32 @llvm.vector.reduce.add.v32i32(<32 x i32>)
declare float @llvm.vector.reduce.fadd.v16f32(float, <16 x float>)
"""


def _place(space: int, table: int) -> str:
    """Return what a load or store goes to: see `fibers.place`."""
    pointer = f"ptr addrspace({space})"
    return f"""
define {pointer} @jit_place_{space}({pointer} %at, i64 %n, i64 %alignment, i64 %what) {{
  %state = load ptr, ptr @jit_state
  %block = ptrtoint ptr %state to i64
  %place = call ptr @jit_pointer(i64 {layout.PLACE})
  %address = ptrtoint {pointer} %at to i64
  %there = call i64 %place(i64 %block, i64 {table}, i64 %address, i64 %n, i64 %alignment,
                           i64 %what)
  %pointer = inttoptr i64 %there to {pointer}
  ret {pointer} %pointer
}}"""


def _number(name: str, word: int) -> str:
    return f"""
define i32 @jit_{name}() alwaysinline {{
  %word = call i64 @jit_word(i64 {word})
  %n = trunc i64 %word to i32
  ret i32 %n
}}"""


def _dot(name: str, extend: str) -> str:
    return f"""
define i32 @jit_{name}(i32 %a, i32 %b, i32 %c) alwaysinline {{
  %u = bitcast i32 %a to <4 x i8>
  %v = bitcast i32 %b to <4 x i8>
  %x = {extend} <4 x i8> %u to <4 x i32>
  %y = sext <4 x i8> %v to <4 x i32>
  %p = mul <4 x i32> %x, %y
  %s = call i32 @llvm.vector.reduce.add.v4i32(<4 x i32> %p)
  %d = add i32 %s, %c
  ret i32 %d
}}"""


def _permute_bytes() -> str:
    lines = [
        "define i32 @jit_permute_bytes(i32 %a, i32 %b, i32 %which) alwaysinline {",
        "  %v = insertelement <2 x i32> poison, i32 %a, i32 0",
        "  %w = insertelement <2 x i32> %v, i32 %b, i32 1",
        "  %bytes = bitcast <2 x i32> %w to <8 x i8>",
    ]
    for i in range(4):
        before = f"%r{i - 1}" if i else "poison"
        lines += [
            f"  %d{i} = lshr i32 %which, {4 * i}",
            f"  %n{i} = and i32 %d{i}, 7",
            f"  %x{i} = extractelement <8 x i8> %bytes, i32 %n{i}",
            f"  %g{i} = ashr i8 %x{i}, 7\n  %h{i} = and i32 %d{i}, 8",
            f"  %i{i} = icmp eq i32 %h{i}, 0\n  %j{i} = select i1 %i{i}, i8 %x{i}, i8 %g{i}",
            f"  %r{i} = insertelement <4 x i8> {before}, i8 %j{i}, i32 {i}",
        ]
    return "\n".join([*lines, "  %y = bitcast <4 x i8> %r3 to i32", "  ret i32 %y", "}"])


def _reduction(name: str) -> str:
    """Return a reduction over a warp: halves of a vector are combined until one number is left."""
    kind = "float" if name.endswith("f32") else "i32"
    lines = [
        f"define {kind} @jit_warp_{name}(i32 %site, {kind} %x) {{",
        f"  %bits = bitcast {kind} %x to i32",
        "  %words = call ptr @jit_tell(i32 %site, i32 %bits)",
        f"  %v32 = load <32 x {kind}>, ptr %words, align 4",
    ]
    for n in (16, 8, 4, 2, 1):
        whole, part = f"<{2 * n} x {kind}>", f"<{n} x {kind}>"
        for half, first in (("l", 0), ("h", n)):
            mask = ", ".join(f"i32 {first + i}" for i in range(n))
            lines.append(f"  %{half}{n} = shufflevector {whole} %v{2 * n}, {whole} poison, "
                         f"<{n} x i32> <{mask}>")  # fmt: skip
        step = {"sum_f32": "fadd {0} {1}, {2}", "sum_i32": "add {0} {1}, {2}"}.get(
            name, "call {0} @llvm.{3}.v{4}({0} {1}, {0} {2})"
        )
        function = "maxnum" if kind == "float" else "smax"
        suffix = f"{n}{'f32' if kind == 'float' else 'i32'}"
        text = step.format(part, f"%l{n}", f"%h{n}", function, suffix)
        lines.append(f"  %v{n} = {text}")
        if name.startswith("max"):
            lines.insert(0, f"declare {part} @llvm.{function}.v{suffix}({part}, {part})")
    return "\n".join(
        [*lines, f"  %y = extractelement <1 x {kind}> %v1, i32 0", f"  ret {kind} %y", "}"]
    )


def _products() -> str:
    numbers = {
        "thread": layout.THREAD, "group_x": layout.GROUP_X, "group_y": layout.GROUP_Y,
        "group_z": layout.GROUP_Z, "groups_x": layout.GROUPS_X,
    }  # fmt: skip
    parts = [_place(1, layout.PIECES), _place(3, layout.ARRAYS)]
    parts += [_number(name, word) for name, word in numbers.items()]
    parts += [_dot("dot4_s8", "sext"), _dot("dot4_u8", "zext"), _permute_bytes()]
    parts += [_reduction(name) for name in ("sum_f32", "max_f32", "sum_i32", "max_i32")]
    return "\n".join([*parts, _mma("mma_f16"), _mma("mma_s8")])


# How a thread adds a row of A times a column of B, each given as a vector of words, to a sum.
_MMA_STEPS = {
    "mma_f16": """  %f{i} = bitcast <8 x i32> %a{i} to <16 x half>
  %g{i} = bitcast <8 x i32> %b{i} to <16 x half>
  %x{i} = fpext <16 x half> %f{i} to <16 x float>
  %y{i} = fpext <16 x half> %g{i} to <16 x float>
  %p{i} = fmul <16 x float> %x{i}, %y{i}
  %d{i} = call float @llvm.vector.reduce.fadd.v16f32(float %c{i}, <16 x float> %p{i})""",
    "mma_s8": """  %f{i} = bitcast <8 x i32> %a{i} to <32 x i8>
  %g{i} = bitcast <8 x i32> %b{i} to <32 x i8>
  %x{i} = sext <32 x i8> %f{i} to <32 x i32>
  %y{i} = sext <32 x i8> %g{i} to <32 x i32>
  %p{i} = mul <32 x i32> %x{i}, %y{i}
  %s{i} = call i32 @llvm.vector.reduce.add.v32i32(<32 x i32> %p{i})
  %d{i} = add i32 %s{i}, %c{i}""",
}


def _mma(name: str) -> str:
    """Return a product of tiles: all threads tell their six words, each adds up four numbers.

    Four lanes in a row hold half a row of A, or half a column of B; see `gpu_threads.mma_f16`.
    """
    kind, step = ("float" if name == "mma_f16" else "i32"), _MMA_STEPS[name]
    words = [*(f"a{i}" for i in range(4)), "b0", "b1"]
    parameters = [f"i32 %{w}in" for w in words] + [f"{kind} %c{i}" for i in range(4)]
    lines = [
        f"define [4 x {kind}] @jit_{name}(i32 %site, {', '.join(parameters)}) {{",
        "  %words = call ptr @jit_turn()\n  %own = call ptr @jit_lane(ptr %words)",
    ]
    for plane, word in enumerate(words):
        at = f"getelementptr i8, ptr %own, i64 {plane * layout.PLANE_BYTES}"
        lines.append(f"  %at{plane} = {at}\n  store i32 %{word}in, ptr %at{plane}")
    lines += [
        f"  call void @jit_wait(i64 {layout.FOR_WORDS}, i32 %site)",
        f"  %thread = call i64 @jit_word(i64 {layout.THREAD})",
        "  %row = and i64 %thread, 28\n  %pair = and i64 %thread, 3\n  %even = mul i64 %pair, 8",
        "  %odd = add i64 %even, 4",
    ]
    for i in range(4):
        lines += _halves(f"%a{i}", "%row", (i // 2, i // 2 + 2))
        lines += _halves(f"%b{i}", "%odd" if i % 2 else "%even", (4, 5))
        lines.append(step.format(i=i))
    for i in range(4):
        before = "poison" if i == 0 else f"%r{i - 1}"
        lines.append(f"  %r{i} = insertvalue [4 x {kind}] {before}, {kind} %d{i}, {i}")
    return "\n".join([*lines, f"  ret [4 x {kind}] %r3", "}"])


def _halves(name: str, lane: str, planes: tuple[int, int]) -> list[str]:
    """Return the loads of four words of two planes, as one vector."""
    lines = list[str]()
    for half, plane in zip("lh", planes, strict=True):
        lines += [
            f"  {name}{half}p = getelementptr i8, ptr %words, i64 {plane * layout.PLANE_BYTES}",
            f"  {name}{half}q = getelementptr i32, ptr {name}{half}p, i64 {lane}",
            f"  {name}{half} = load <4 x i32>, ptr {name}{half}q, align 4",
        ]
    mask = ", ".join(f"i32 {i}" for i in range(8))
    both = f"<4 x i32> {name}l, <4 x i32> {name}h, <8 x i32> <{mask}>"
    return [*lines, f"  {name} = shufflevector {both}"]
