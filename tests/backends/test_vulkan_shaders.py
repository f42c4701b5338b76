"""Shaders of the Vulkan backend: the committed SPIR-V is that of the sources, and valid."""

import re
import shutil
import subprocess

import pytest

from jitllm.backends._gpu import core as gpu_core
from jitllm.backends._gpu import lower as gpu_lower
from jitllm.backends._vulkan_shaders import COMPILER, FOLDER, compiler, make, sources, types
from jitllm.llm.graph.builder import ACTIVATIONS
from jitllm.llm.graph.words import bounded_glu

SOURCES = dict(sources())


def test_every_shader_has_its_code() -> None:
    assert set(SOURCES) == {path.name for path in FOLDER.glob("*.spv")}
    assert {"F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q5_K", "Q6_K"} <= types()


@pytest.mark.parametrize("name", SOURCES)
def test_code_is_that_of_the_source(name: str) -> None:
    if not compiler().startswith(COMPILER):
        pytest.skip(f"expected glslc of {COMPILER}, found {compiler() or 'none'}")
    assert make(SOURCES[name]) == (FOLDER / name).read_bytes()


@pytest.mark.parametrize("name", SOURCES)
def test_code_is_valid(name: str) -> None:
    if not shutil.which("spirv-val"):
        pytest.skip("spirv-val is not installed")
    command = ["spirv-val", "--target-env", "vulkan1.2", str(FOLDER / name)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert (run.returncode, run.stdout + run.stderr) == (0, "")


def test_a_wrong_source_is_an_error() -> None:
    if not shutil.which("glslc"):
        pytest.skip("glslc is not installed")
    with pytest.raises(RuntimeError, match="undeclared"):
        make("#version 450\nvoid main() { nothing(); undeclared = 1; }")


def test_places_of_activations_are_those_of_the_shader() -> None:
    text = (FOLDER / "activations.glsl").read_text()
    assert set(gpu_lower.ACTIVATIONS) == set(ACTIVATIONS)
    assert set(gpu_lower.FORMS) == set(bounded_glu.FORMS)
    cases = re.findall(r"case (\d+):", text.partition("float bounded")[0])
    assert list(map(int, cases)) == list(range(len(ACTIVATIONS)))


def test_push_constants_fit_and_match() -> None:
    """Every kernel's block has 64-bit addresses first, then words of 4 bytes, 128 bytes in all."""
    for path in FOLDER.glob("*.comp"):
        block = re.search(r"uniform Arguments \{(.*?)\};", path.read_text(), re.DOTALL)
        assert block, path
        body = re.sub(r"//.*", "", block[1])
        kinds = [
            (kind, len(names.split(","))) for kind, names in re.findall(r"(\w+) ([\w, ]+);", body)
        ]
        is_word = [kind in ("uint", "int", "float") for kind, _ in kinds]
        assert is_word == sorted(is_word), path
        size = sum(n * (4 if word else 8) for (_, n), word in zip(kinds, is_word, strict=True))
        assert size <= 128, path


def test_operations_have_a_lowering() -> None:
    assert set(gpu_core.OPS).isdisjoint(
        path.stem for path in (FOLDER.parent / "gpu_ops").glob("*.py")
    )
