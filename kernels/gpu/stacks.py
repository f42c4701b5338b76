"""How simulated GPU threads change over from one stack to another."""

from functools import cache

import llvmlite.binding as llvm

from jitllm.kernels import jit
from jitllm.kernels import level as levels

SWITCH = "jitllm:switch"
# What a function must preserve is kept on its stack, as the System V and ARM conventions say.
_X86 = ("rbp", "rbx", "r12", "r13", "r14", "r15")
_ARM = [f"{kind}{i}, {kind}{i + 1}" for kind, first, end in (("x", 19, 31), ("d", 8, 16))
        for i in range(first, end, 2)]  # fmt: skip
CODE = {
    "x86": [
        *(f"pushq %{name}" for name in _X86), "movq %rsp, (%rdi)", "movq (%rsi), %rsp",
        *(f"popq %{name}" for name in reversed(_X86)), "retq",
    ],
    "arm": [
        "sub sp, sp, #160", *(f"stp {pair}, [sp, #{16 * i}]" for i, pair in enumerate(_ARM)),
        "mov x9, sp", "str x9, [x0]", "ldr x9, [x1]", "mov sp, x9",
        *(f"ldp {pair}, [sp, #{16 * i}]" for i, pair in enumerate(_ARM)),
        "add sp, sp, #160", "ret",
    ],
}  # fmt: skip
# Bytes that `SWITCH` takes from a new stack, and at which of them it finds where to go on.
FRAMES = {"x86": (64, 48), "arm": (160, 88)}


def is_possible() -> bool:
    """Return whether `SWITCH` was written for this kind of processor."""
    return levels.processor(levels.current()) in CODE


@cache
def switch_object() -> bytes:
    """Return the object file of `SWITCH`(save, load), which changes over to another stack.

    Both are addresses of words with stack pointers.
    """
    machine = jit.machine()
    llvm.initialize_native_asmparser()
    lines = "\\0A".join(CODE[levels.processor(levels.current())])
    unit = llvm.parse_assembly(
        f'define void @"{SWITCH}"(ptr %save, ptr %load) naked noinline {{\n'
        f'  call void asm sideeffect "{lines}", "~{{memory}}"()\n  unreachable\n}}'
    )
    unit.triple, unit.data_layout = machine.triple, str(machine.target_data)
    return bytes(machine.emit_object(unit))
