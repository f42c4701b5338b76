"""The names of `jitllm`: all there, sorted, and free until used."""

import subprocess
import sys

import pytest

import jitllm
from jitllm.llm import errors

_HEAVY = (
    "numba llvmlite numpy jinja2 huggingface_hub tqdm matplotlib tokenizers IPython pandas asyncio"
)


def test_names_are_sorted_and_exist() -> None:
    assert jitllm.__all__ == sorted(jitllm.__all__)
    for name in jitllm.__all__:
        assert getattr(jitllm, name) is not None
    assert set(jitllm.__all__) == set(dir(jitllm)) - {"__version__"}


def test_every_error_is_public() -> None:
    found = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert found <= set(jitllm.__all__)
    assert issubclass(jitllm.SamplingError, Exception)


def test_star_import_gives_all_and_only_these() -> None:
    namespace: dict[str, object] = {}
    exec("from jitllm import *", namespace)
    assert set(namespace) - {"__builtins__"} == set(jitllm.__all__)


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        jitllm.laod  # noqa: B018


def test_samplers_is_the_module_with_chain() -> None:
    assert jitllm.samplers.chain("top_k:1", seed=1).samplers[0].name == "top_k"


def test_import_is_light() -> None:
    code = (
        "import sys, time\nt = time.process_time()\nimport jitllm\n"
        "assert time.process_time() - t < 0.15\n"
        f"print([m for m in '{_HEAVY}'.split() if m in sys.modules])\n"
        "jitllm.load, jitllm.SamplingParams\n"
        f"print([m for m in '{_HEAVY}'.split() if m in sys.modules and m != 'numpy'])"
    )
    run = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert run.stdout.split("\n")[:2] == ["[]", "[]"], run.stdout + run.stderr
