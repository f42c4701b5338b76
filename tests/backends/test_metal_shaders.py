"""Kernels of the Metal backend: the committed text is that of the sources, and well-typed."""

import re
import shutil
import subprocess

import metal_standin
import pytest

from jitllm.backends import _vulkan_shaders
from jitllm.backends._metal_shaders import FOLDER, TRANSLATOR, make, sources, translator, types

SOURCES = sources()
CLANG = next(filter(shutil.which, ("clang", "clang-14", "clang-16", "clang-19")), "")
# MSL is C++14 with the address spaces of OpenCL, which clang knows.
_CHECK = (
    CLANG, "-fsyntax-only", "-xcl", "-cl-std=clc++2021", "-cl-no-stdinc", "-target", "spir64",
    "-cl-single-precision-constant", "-Wno-unknown-attributes", f"-I{metal_standin.SOURCES}", "-",
)  # fmt: skip


def _check(text: str) -> str:
    """What clang says of a kernel."""
    if not CLANG:
        pytest.skip("clang is not installed")
    run = subprocess.run(_CHECK, input=text, capture_output=True, text=True)
    return run.stderr


def test_every_shader_has_its_text() -> None:
    assert set(SOURCES) == {path.name for path in FOLDER.glob("*.metal")}
    assert types() == _vulkan_shaders.types()


@pytest.mark.parametrize("name", SOURCES)
def test_text_is_that_of_the_source(name: str) -> None:
    if not _vulkan_shaders.compiler().startswith(_vulkan_shaders.COMPILER):
        pytest.skip(f"expected glslc of {_vulkan_shaders.COMPILER}")
    if translator() != TRANSLATOR:
        pytest.skip(f"expected spirv-cross {TRANSLATOR}, found {translator() or 'none'}")
    assert make(name, SOURCES[name]) == (FOLDER / name).read_text("utf-8")


@pytest.mark.parametrize("name", SOURCES)
def test_text_keeps_address_spaces_apart(name: str) -> None:
    assert _check((FOLDER / name).read_text("utf-8")) == ""


def test_the_check_sees_wrong_address_spaces() -> None:
    text = (FOLDER / "norm.metal").read_text("utf-8")
    wrong = text.replace("threadgroup float (&lanes)", "device float (&lanes)")
    assert wrong != text and "no matching function" in _check(wrong)


@pytest.mark.parametrize("name", SOURCES)
def test_constants_are_macros(name: str) -> None:
    """Those of the source, and no other means to set them."""
    text = (FOLDER / name).read_text("utf-8")
    declared = set(re.findall(r"constant_id = (\d+)", SOURCES[name]))
    used = set(re.findall(r"#ifndef SPIRV_CROSS_CONSTANT_ID_(\d+)", text))
    assert used <= declared and "function_constant" not in text
    assert re.search(r"uint3 gl_WorkGroupSize \S+ = uint3\((64|128)u, 1u, 1u\);", text)


def test_a_wrong_source_is_an_error() -> None:
    if not shutil.which("glslc") or not shutil.which("spirv-cross"):
        pytest.skip("glslc or spirv-cross is not installed")
    with pytest.raises(RuntimeError, match="undeclared"):
        make("x.metal", "#version 450\nvoid main() { undeclared = 1; }")
