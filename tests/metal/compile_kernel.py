"""Compiles a kernel's Metal text for this machine; prints why it cannot.

Run by `kernels.c` as `python compile_kernel.py COMPILER SOURCE LIBRARY`.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

_FLAGS = (
    "-std=c++17", "-O1", "-fPIC", "-shared", "-ffp-contract=off", "-fsingle-precision-constant",
    "-fsanitize=alignment,bounds,shift-exponent,integer-divide-by-zero,float-cast-overflow",
    "-fsanitize-undefined-trap-on-error", "-w", "-nostdinc", "-xc++",
)  # fmt: skip
_ARRAYS = re.compile(r"template<typename T, size_t Num>\nstruct spvUnsafeArray\n\{.*?\n\};\n", re.S)
_SHARED = re.compile(r"(?m)^( +)threadgroup (\w+ \w+\[)")
_KERNEL = re.compile(r"kernel void (\w+)\((.*?)\)\s*\{", re.S)
_PARAMETER = re.compile(r"(.+?) ?\w+ \[\[(\w+)(?:\((\d+)\))?\]\]")
_POSITIONS = {
    "threadgroup_position_in_grid": "group", "threadgroups_per_grid": "groups",
    "thread_position_in_threadgroup": "own",
}  # fmt: skip
_BEHIND = """
struct standin_place {{ uint3 group, groups, own; }};
extern "C" {{
extern char __start_shared[] __attribute__((weak)), __stop_shared[] __attribute__((weak));
void (*standin_barrier_{name})(int line);
extern const bool standin_waits_{name} = {waits};
char *standin_shared_{name}[] = {{__start_shared, __stop_shared}};
extern const uint standin_sizes_{name}[] = {{{sizes}0}};
void standin_run_{name}(void *const *bindings, const standin_place *place) {{
    {name}({arguments});
}}
}}
"""


def as_cpp(text: str) -> str:
    """Return a kernel as C++, and behind it what the stand-in asks of its library."""
    found = _KERNEL.search(text)
    if not found:
        raise ValueError("no kernel")
    arguments, sizes = [], ""
    for parameter in found[2].split(", "):
        match = _PARAMETER.fullmatch(parameter)
        if not match:
            raise ValueError(f"parameter {parameter!r}")
        kind, role, index = match.groups()
        if role == "buffer":
            kind = kind.removeprefix("constant ").removesuffix("&")
            arguments.append(f"*(const {kind} *)bindings[{index}]")
            sizes += f"sizeof({kind}), "
        else:
            arguments.append(f"place->{_POSITIONS[role]}")
    text = _SHARED.sub(r'\1static __attribute__((section("shared"))) \2', _ARRAYS.sub("", text))
    waits = str("threadgroup_barrier" in text).lower()
    return text + _BEHIND.format(
        name=found[1], waits=waits, sizes=sizes, arguments=", ".join(arguments)
    )


def compile_kernel(compiler: str, text: str, library: Path) -> None:
    """Make the library of a kernel; `RuntimeError` with the compiler's message."""
    made = library.with_name(f"{library.name}.{os.getpid()}")
    command = [compiler, *_FLAGS, f"-I{Path(__file__).parent}", "-", "-o", str(made)]
    run = subprocess.run(command, input=as_cpp(text), capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(run.stderr)
    made.rename(library)


if __name__ == "__main__":
    try:
        compile_kernel(sys.argv[1], Path(sys.argv[2]).read_text(), Path(sys.argv[3]))
    except (RuntimeError, ValueError) as error:
        sys.stdout.write(str(error))
        sys.exit(1)
