"""CUDA dispatches that do several operations, and what becomes of them where somebody looks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driver import Runner, nmse, simulate_cuda
from quantized import quantized_copy
from tiny import conformance_golden, conformance_model

FUSED = {"rope_keep", "norm_added", "matvec_gated.q8_0"}
APART = {"rope", "keep"}
OPS = "rms_norm", "rope", "add", "glu"


@pytest.fixture(autouse=True)
def cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    simulate_cuda(monkeypatch)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of a model that norms heads of queries and keys, and outputs of blocks."""
    folder = tmp_path_factory.mktemp("fused")
    source = conformance_model("gemma3-dense.gqa", folder / "float.gguf")
    return quantized_copy(source, folder / "m.gguf", "Q8_0")


def _runner(path: Path, device: str, **options: Any) -> Runner:
    return Runner(path, device, "fast", "f16", **options)


def _kernels(runner: Runner) -> set[str]:
    program: Any = runner.program
    return {form.kernel for each in program._lowering.dispatches for form in each.forms}


def test_several_operations_are_one_dispatch(path: Path) -> None:
    tokens, _ = conformance_golden("gemma3-dense.gqa")
    with _runner(path, "cuda") as runner, _runner(path, "cpu") as other:
        kernels = _kernels(runner)
        assert kernels & (FUSED | APART) == FUSED
        for start, stop in ((0, 7), (7, 8), (8, len(tokens))):
            runs = [each.forward(tokens[start:stop], start) for each in (runner, other)]
            assert 0 < nmse(*runs) < 1e-5


def test_what_is_between_can_be_seen_and_changed(path: Path) -> None:
    tokens, _ = conformance_golden("gemma3-dense.gqa")
    with _runner(path, "cuda") as runner:
        nodes = [node for node in runner.graph.nodes if node.name.startswith("blk.0.")]
    names = [node.outputs[0].name for node in nodes if node.op in OPS]
    assert len(names) > 9
    for name in names:
        seen = list[Any]()

        def double(_: str, values: Any, seen: list[Any] = seen) -> None:
            seen.append(values.copy())
            values *= 2

        found = list[Any]()
        for device in ("cuda", "cpu"):
            with _runner(path, device, taps=[name]) as runner:
                found.append(runner.forward(tokens[:9], tap=double))
        assert nmse(seen[0], seen[1]) < 1e-5 and 0 < nmse(found[0], found[1]) < 1e-4, name


def test_a_look_at_one_keeps_the_others_together(path: Path) -> None:
    with _runner(path, "cuda", taps=["blk.0.attn_q_norm"]) as runner:
        names = [node.name for node in runner.graph.nodes if node.name == "blk.0.attn_q_norm"]
        kernels = _kernels(runner)
    assert len(names) == 1 and kernels >= FUSED | APART


def test_heads_that_nothing_turns_are_written_alone(path: Path) -> None:
    """Quantized cells need a rotation of their own."""
    with Runner(path, "cuda", "fast", "q8_0") as runner:
        assert _kernels(runner) & {"rope_keep", "rope", "keep"} == {"rope", "keep"}
        whole = runner.forward(np.arange(9, dtype=np.int32))
    assert np.isfinite(whole).all()
