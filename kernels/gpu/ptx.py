"""PTX of GPU kernels, by LLVM's own generator: no CUDA toolkit takes part.

PTX is made for a compute capability and runs on all later ones, whose driver compiles it. Nothing
that kernels use differs between 8.0 and later ones, so there are two versions.
"""

import re
from typing import Any

import llvmlite.binding as llvm

from jitllm.kernels.gpu.neutral import ENTRY, Neutral, parse

# Least compute capability, and the PTX version of its text: drivers from 470 (2021) on know 7.4.
TARGETS = (((8, 0), "74"), ((7, 5), "74"))
_TRIPLE = "nvptx64-nvidia-cuda"
_TYPES = {"A": "i64", "U": "i32", "F": "float"}


def target_of(cc: tuple[int, int]) -> tuple[int, int]:
    """Return the compute capability that code for a device of capability `cc` is made for.

    Raises
    ------
    ValueError
        If the device is too old.
    """
    for least, _ in TARGETS:
        if cc >= least:
            return least
    oldest = "{}.{}".format(*TARGETS[-1][0])
    raise ValueError(f"compute capability {cc[0]}.{cc[1]} is below {oldest}")


def generate(neutral: Neutral, name: str, cc: tuple[int, int]) -> str:
    """Return the PTX of a kernel, whose entry is called `name`, for one of `TARGETS`.

    Raises
    ------
    ValueError
        If the kernel computes in float64 though it does not say so.
    """
    _initialize()
    version = dict(TARGETS)[cc]
    machine = llvm.Target.from_triple(_TRIPLE).create_target_machine(
        cpu=f"sm_{cc[0]}{cc[1]}", features=f"+ptx{version}", opt=3
    )
    unit = parse(neutral.text)
    unit.triple, unit.data_layout = machine.triple, str(machine.target_data)
    prelude = parse(prelude_text(neutral.threads, cc) + _entry(neutral, name))
    prelude.triple, prelude.data_layout = unit.triple, unit.data_layout
    unit.link_in(prelude)
    for function in unit.functions:
        if not function.is_declaration and function.name != name:
            function.linkage = llvm.Linkage.internal
    optimize(unit, machine)
    text = str(machine.emit_assembly(unit))
    if ".reqntid" not in text:  # LLVM before 21 does not know the attribute
        text = text.replace("\n)\n{", f"\n)\n.reqntid {neutral.threads}, 1, 1\n{{", 1)
    if neutral.groups:
        text = re.sub(r"(\.reqntid .*\n)", rf"\g<1>.minnctapersm {neutral.groups}\n", text, count=1)
    _check(text, neutral, name)
    return text


def optimize(unit: Any, machine: Any) -> None:
    """Run LLVM's passes over a module."""
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = False  # a thread is one lane; LLVM 22 stops itself at some loops
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(unit, builder)


def _initialize() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


def _check(text: str, neutral: Neutral, name: str) -> None:
    if not neutral.float64 and (match := re.search(r"^.*\.f64.*$", text, re.M)):
        raise ValueError(
            f"{name} computes in float64 ({match[0].strip()}): use np.float32 numbers and to_f32, "
            "or say FLOAT64 = True in its file"
        )
    if unknown := re.findall(r"\.func .*\b(jit_\w+)", text):
        raise ValueError(f"{name} calls {unknown}, which GPUs do not have")


# --- what kernels call ---------------------------------------------------------------------------


def _entry(neutral: Neutral, name: str) -> str:
    parameters = [f"{_TYPES[letter]} %p{i}" for i, letter in enumerate(neutral.parameters)]
    lines, passed, kinds = list[str](), list[str](), list[str]()
    for i, letter in enumerate(neutral.parameters):
        if letter == "U":
            lines.append(f"  %w{i} = zext i32 %p{i} to i64")
        kinds.append("float" if letter == "F" else "i64")
        passed.append(f"{kinds[-1]} %{'w' if letter == 'U' else 'p'}{i}")
    return "\n".join([
        f"declare void @{ENTRY}({', '.join(kinds)})",
        f"define ptx_kernel void @{name}({', '.join(parameters)}) "
        f'"nvvm.reqntid"="{neutral.threads},1,1" {{',
        *lines,
        f"  call void @{ENTRY}({', '.join(passed)})",
        "  ret void",
        "}",
    ])  # fmt: skip


_IDS = {
    "group_x": "ctaid.x", "group_y": "ctaid.y", "group_z": "ctaid.z", "groups_x": "nctaid.x",
}  # fmt: skip
_NUMBER = """
declare i32 @llvm.nvvm.read.ptx.sreg.{register}()
define i32 @jit_{name}() alwaysinline {{
  %n = call i32 @llvm.nvvm.read.ptx.sreg.{register}(), !range !{{i32 0, i32 {end}}}
  ret i32 %n
}}
"""
_COMMON = """
declare void @llvm.nvvm.barrier0() convergent
declare void @llvm.nvvm.bar.warp.sync(i32) convergent
define void @jit_sync_threads(i32 %site) alwaysinline {
  call void @llvm.nvvm.barrier0()
  ret void
}
define void @jit_sync_warp(i32 %site) alwaysinline {
  call void @llvm.nvvm.bar.warp.sync(i32 -1)
  ret void
}
declare float @llvm.nvvm.ex2.approx.f(float)
define float @jit_ex2(float %x) alwaysinline {
  %y = call float @llvm.nvvm.ex2.approx.f(float %x)
  ret float %y
}
declare i32 @llvm.nvvm.f2i.rz(float)
define i32 @jit_to_i32(float %x) alwaysinline {
  %y = call i32 @llvm.nvvm.f2i.rz(float %x)
  ret i32 %y
}
declare i32 @llvm.nvvm.prmt(i32, i32, i32)
define i32 @jit_permute_bytes(i32 %a, i32 %b, i32 %which) alwaysinline {
  %y = call i32 @llvm.nvvm.prmt(i32 %a, i32 %b, i32 %which)
  ret i32 %y
}
define <4 x i32> @jit_stream_i32x4(i64 %at) alwaysinline {
  %v = call {i32, i32, i32, i32} asm "ld.global.nc.L1::no_allocate.v4.b32 {$0, $1, $2, $3}, [$4];",
    "=r,=r,=r,=r,l"(i64 %at)
  %a = extractvalue {i32, i32, i32, i32} %v, 0
  %b = extractvalue {i32, i32, i32, i32} %v, 1
  %c = extractvalue {i32, i32, i32, i32} %v, 2
  %d = extractvalue {i32, i32, i32, i32} %v, 3
  %1 = insertelement <4 x i32> poison, i32 %a, i32 0
  %2 = insertelement <4 x i32> %1, i32 %b, i32 1
  %3 = insertelement <4 x i32> %2, i32 %c, i32 2
  %4 = insertelement <4 x i32> %3, i32 %d, i32 3
  ret <4 x i32> %4
}
"""
_SHUFFLE = """
declare i32 @llvm.nvvm.shfl.sync.{mode}.i32(i32, i32, i32, i32) convergent
define i32 @jit_{name}(i32 %site, i32 %x, i32 %which) alwaysinline {{
  %y = call i32 @llvm.nvvm.shfl.sync.{mode}.i32(i32 -1, i32 %x, i32 %which, i32 31)
  ret i32 %y
}}
"""
_DOT = """
define i32 @jit_{name}(i32 %a, i32 %b, i32 %c) alwaysinline {{
  %d = call i32 asm "dp4a.{kinds} $0, $1, $2, $3;", "=r,r,r,r"(i32 %a, i32 %b, i32 %c)
  ret i32 %d
}}
"""
_REDUCTIONS = {
    "sum_f32": "fadd float {a}, {b}",
    "max_f32": "call float @llvm.maxnum.f32(float {a}, float {b})",
    "sum_i32": "add i32 {a}, {b}",
    "max_i32": "call i32 @llvm.smax.i32(i32 {a}, i32 {b})",
}


def prelude_text(threads: int, cc: tuple[int, int]) -> str:
    """Return the IR of the functions that kernels with `threads` threads call, for GPUs."""
    parts = [_NUMBER.format(name="thread", register="tid.x", end=threads)]
    parts += [_NUMBER.format(name=n, register=r, end=0x7FFFFFFF) for n, r in _IDS.items()]
    parts += [_COMMON, _SHUFFLE.format(name="shuffle", mode="idx")]
    parts += [_SHUFFLE.format(name="shuffle_xor", mode="bfly")]
    parts += [_DOT.format(name="dot4_s8", kinds="s32.s32")]
    parts += [_DOT.format(name="dot4_u8", kinds="u32.s32")]
    parts += ["declare float @llvm.maxnum.f32(float, float)\ndeclare i32 @llvm.smax.i32(i32, i32)"]
    parts += [_reduction(name, step) for name, step in _REDUCTIONS.items()]
    steps = _MMA_80 if cc >= (8, 0) else _MMA_75
    return "\n".join([*parts, *(_product(name, *step) for name, step in steps.items())])


def _reduction(name: str, step: str) -> str:
    kind = "float" if name.endswith("f32") else "i32"
    lines = [f"define {kind} @jit_warp_{name}(i32 %site, {kind} %v0) alwaysinline {{"]
    for i, distance in enumerate((16, 8, 4, 2, 1)):
        call = f"call i32 @jit_shuffle_xor(i32 0, i32 %b{i}, i32 {distance})"
        lines += [
            f"  %b{i} = bitcast {kind} %v{i} to i32",
            f"  %s{i} = {call}",
            f"  %o{i} = bitcast i32 %s{i} to {kind}",
            f"  %v{i + 1} = {step.format(a=f'%v{i}', b=f'%o{i}')}",
        ]
    return "\n".join([*lines, f"  ret {kind} %v5", "}"])


# Of each product: the instruction, types of its operands and sums, and its steps: words of A, words
# of B, and the sums it adds to.
_ALL = (0, 1, 2, 3)
_MMA_80 = {
    "mma_f16": ("m16n8k16.row.col.f32.f32", "<2 x half>", "float", ((_ALL, (0, 1), _ALL),)),
    "mma_s8": ("m16n8k32.row.col.s8", "i32", "i32", ((_ALL, (0, 1), _ALL),)),
}
_MMA_75 = {
    "mma_f16": (
        "m16n8k8.row.col.f32.f32", "<2 x half>", "float",
        (((0, 1), (0,), _ALL), ((2, 3), (1,), _ALL)),
    ),
    "mma_s8": (
        "m8n8k16.row.col.s8", "i32", "i32",
        (((0,), (0,), (0, 1)), ((2,), (1,), (0, 1)), ((1,), (0,), (2, 3)), ((3,), (1,), (2, 3))),
    ),
}  # fmt: skip


def _product(name: str, shape: str, word: str, kind: str, steps: Any) -> str:
    """Return the definition of `jit_<name>`, made of one or more instructions."""
    inputs = [*(f"a{i}" for i in range(4)), "b0", "b1"]
    parameters = ", ".join(
        ["i32 %site", *(f"i32 %{x}" for x in inputs), *(f"{kind} %c{i}" for i in range(4))]
    )
    words, sums = ", ".join([word] * (len(steps[0][0]) + len(steps[0][1]))), len(steps[0][2])
    struct = f"{{{', '.join([kind] * sums)}}}"
    lines = [
        f"declare {struct} @llvm.nvvm.mma.{shape}({words}, {', '.join([kind] * sums)}) convergent",
        f"define [4 x {kind}] @jit_{name}({parameters}) alwaysinline {{",
        *(f"  %w{x} = bitcast i32 %{x} to {word}" for x in inputs),
    ]
    now = [f"%c{i}" for i in range(4)]
    for k, (a, b, c) in enumerate(steps):
        operands = [f"{word} %wa{i}" for i in a] + [f"{word} %wb{i}" for i in b]
        operands += [f"{kind} {now[i]}" for i in c]
        lines.append(f"  %d{k} = call {struct} @llvm.nvvm.mma.{shape}({', '.join(operands)})")
        for place, i in enumerate(c):
            lines.append(f"  %d{k}_{place} = extractvalue {struct} %d{k}, {place}")
            now[i] = f"%d{k}_{place}"
    result = "poison"
    for i in range(4):
        lines.append(f"  %r{i} = insertvalue [4 x {kind}] {result}, {kind} {now[i]}, {i}")
        result = f"%r{i}"
    return "\n".join([*lines, f"  ret [4 x {kind}] {result}", "}"])
