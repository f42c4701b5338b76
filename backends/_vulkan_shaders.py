"""Shaders of the Vulkan backend: their names, and how SPIR-V is made of them.

A kernel is a file `vulkan/<kernel>.comp`; one that includes `types/type.glsl` is made once for
every tensor type of `vulkan/types`, as `<kernel>.<type>.spv`. The .spv files are committed, so that
only who changes a shader needs a compiler: `python backends/_vulkan_shaders.py` makes them with
glslc, and tests compare.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "vulkan"
COMPILER = "shaderc 2023.2"  # Debian 12's
_ANY_TYPE = "types/type.glsl"
_PARTS = {"k_scales", "iq4_levels"}  # included by types


@cache
def types() -> frozenset[str]:
    """Return the names of the tensor types whose weights shaders read."""
    return frozenset(path.name.split(".")[1].upper() for path in FOLDER.glob("matmul.*.spv"))


def sources() -> Iterator[tuple[str, str]]:
    """Yield the name of each .spv file, and its GLSL."""
    stems = sorted(path.stem for path in (FOLDER / "types").glob("*.glsl"))
    for path in sorted(FOLDER.glob("*.comp")):
        text = path.read_text("utf-8")
        if _ANY_TYPE not in text:
            yield f"{path.stem}.spv", text
            continue
        for stem in stems:
            if stem not in _PARTS:
                yield f"{path.stem}.{stem}.spv", text.replace(_ANY_TYPE, f"types/{stem}.glsl")


def compiler() -> str:
    """Return the version of the glslc that is installed, "" if none is."""
    glslc = shutil.which("glslc")
    if not glslc:
        return ""
    run = subprocess.run([glslc, "--version"], capture_output=True, text=True, check=True)
    return run.stdout.partition("\n")[0]


def make(text: str) -> bytes:
    """Return the SPIR-V that glslc makes of GLSL; `RuntimeError` with its message if it cannot."""
    glslc = shutil.which("glslc")
    if not glslc:
        raise RuntimeError("glslc is not installed (Debian: apt-get install glslc)")
    command = [
        glslc, "--target-env=vulkan1.2", "-O", "-fshader-stage=compute", f"-I{FOLDER}", "-o-", "-"
    ]  # fmt: skip
    run = subprocess.run(command, input=text.encode(), capture_output=True)
    if run.returncode:
        raise RuntimeError(run.stderr.decode())
    return run.stdout


def main() -> None:
    """Make all .spv files, and remove those without a source."""
    made = {name: make(text) for name, text in sources()}
    for path in FOLDER.glob("*.spv"):
        if path.name not in made:
            path.unlink()
    for name, code in made.items():
        (FOLDER / name).write_bytes(code)
    sys.stdout.write(f"{len(made)} files, {sum(map(len, made.values()))} bytes\n")


if __name__ == "__main__":
    main()
