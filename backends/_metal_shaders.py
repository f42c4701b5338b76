"""Kernels of the Metal backend: text that is made of the Vulkan backend's shaders.

`metal/<kernel>.metal` comes of `vulkan/<kernel>.comp` through glslc and spirv-cross. The files are
committed, so that only who changes a shader needs those tools: `python backends/_metal_shaders.py`
makes them, and tests compare. They are compiled at run time, static constants being macros.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from jitllm.backends import _vulkan_shaders

FOLDER = Path(__file__).parent / "metal"
TRANSLATOR = "2021.01.15+1.3.239.0-1"  # Debian 12's spirv-cross
_NOTE = "// Made by backends/_metal_shaders.py of {}: change that file.\n"
_CONSTANT = re.compile(
    r"constant (\w+) (\w+)_tmp \[\[function_constant\((\d+)\)\]\];\n"
    r"constant \1 \2 = is_function_constant_defined\(\2_tmp\) \? \2_tmp : (\w+);\n"
)
_MACRO = (
    r"#ifndef SPIRV_CROSS_CONSTANT_ID_\3\n#define SPIRV_CROSS_CONSTANT_ID_\3 \4\n#endif\n"
    r"constant \1 \2 = SPIRV_CROSS_CONSTANT_ID_\3;\n"
)
# Helpers of `precise` numbers that are for matrices, which no kernel has.
_OF_MATRICES = re.compile(
    r"template<typename T, int \w+,[^>]*>\n\[\[clang::optnone\]\].*?\n\}\n\n", re.DOTALL
)


@cache
def types() -> frozenset[str]:
    """Return the names of the tensor types whose weights kernels read."""
    return frozenset(path.name.split(".")[1].upper() for path in FOLDER.glob("matmul.*.metal"))


def sources() -> dict[str, str]:
    """Return the GLSL of each .metal file, by its name."""
    return {f"{name.removesuffix('.spv')}.metal": text for name, text in _vulkan_shaders.sources()}


def translator() -> str:
    """Return the version of the spirv-cross package that is installed, "" if none is."""
    if not shutil.which("spirv-cross") or not shutil.which("dpkg-query"):
        return ""
    command = ["dpkg-query", "--show", "--showformat=${Version}", "spirv-cross"]
    return subprocess.run(command, capture_output=True, text=True).stdout


def make(name: str, text: str) -> str:
    """Return the Metal text of GLSL; `RuntimeError` with a tool's message if it has none."""
    with tempfile.TemporaryDirectory() as folder:
        code = Path(folder, "code.spv")
        _run(
            ["glslc", "--target-env=vulkan1.2", "-O0", "-g", "-fshader-stage=compute",
             f"-I{_vulkan_shaders.FOLDER}", f"-o{code}", "-"], text,
        )  # fmt: skip
        made = _run(["spirv-cross", "--msl", "--msl-version", "30000", str(code)])
    source = f"vulkan/{name.split('.')[0]}.comp"
    return _NOTE.format(source) + _CONSTANT.sub(_MACRO, _OF_MATRICES.sub("", made))


def _run(command: list[str], text: str = "") -> str:
    if not shutil.which(command[0]):
        raise RuntimeError(f"{command[0]} is not installed (a package of that name has it)")
    run = subprocess.run(command, input=text, capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(run.stderr)
    return run.stdout


def main() -> None:
    """Make all .metal files, and remove those without a source."""
    made = {name: make(name, text) for name, text in sources().items()}
    for path in FOLDER.glob("*.metal"):
        if path.name not in made:
            path.unlink()
    for name, text in made.items():
        (FOLDER / name).write_text(text, "utf-8")
    sys.stdout.write(f"{len(made)} files, {sum(map(len, made.values()))} bytes\n")


if __name__ == "__main__":
    main()
