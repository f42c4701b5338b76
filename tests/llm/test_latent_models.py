"""Latent and sparse attention against llama.cpp's logits, and whether wrong details are seen."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driver import Runner, devices, nmse
from logits import (
    MAX_NMSE,
    WRONG_NMSE,
    Files,
    change,
    logits_error,
    written_once,
)
from quantized import quantized_copy
from variants.latent import VARIANTS, latent_golden, latent_model

import jitllm
from jitllm.llm.errors import ModelFormatError
from jitllm.llm.loaders.gguf import GGUFFile
from jitllm.llm.models import _mla as mla
from jitllm.llm.models.loading import open_model

SPARSE = [
    "deepseek32-chosen", "glm-dsa-shared", "dots3note-windows", "hy_v4-shared", "minimax-m3-blocks",
]  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Path of a variant, written once."""
    return written_once(tmp_path_factory.mktemp("latent"), latent_model)


def error(path: Path, name: str, device: str = "reference", **options: Any) -> float:
    """NMSE of the last 16 logits."""
    return logits_error(path, latent_golden(name), device, **options)


@pytest.mark.parametrize("device", devices())
@pytest.mark.parametrize("name", VARIANTS)
def test_logits_are_those_of_llama_cpp(files: Files, name: str, device: str) -> None:
    assert error(files(name), name, device) <= MAX_NMSE


@pytest.mark.parametrize("name", SPARSE)
def test_the_choice_is_in_the_graph(files: Files, name: str) -> None:
    """With a context that the index covers, all positions are read without it."""
    ops = []
    for n_ctx in (256, 8):
        with GGUFFile(files(name)) as file:
            model = open_model(file, "reference", n_ctx=n_ctx)
        model.backend.close()
        ops.append({node.op for node in model.graph.nodes})
    assert "sparse_attention" in ops[0] and "sparse_attention" not in ops[1]
    assert not any(op.startswith("index") for op in ops[1])


WRONG = {
    "scale": ("deepseek2-yarn-groups", change("attention", scale=192**-0.5)),
    "magnitude": ("mistral4-temperature", change("rope", magnitude=1.0)),
    "temperature": ("mistral4-temperature", change("scale_by_position", length=9)),
    "pairs": ("deepseek2-in-full", change("rope", kind="neox")),
    "groups of experts": ("deepseek2-yarn-groups", change("experts", n_group=1, topk_group=1)),
    "pairs of the index": ("deepseek32-chosen", change("rope", kind="norm")),
    "scale over chosen": ("glm-dsa-shared", change("sparse_attention", scale=576**-0.5)),
    "window": ("dots3note-windows", change("attention", window=9)),
    "positions of compressed keys": ("deepseek4-compressed", change("rope_behind", behind=0)),
    "mix of streams": ("deepseek4-compressed", change("stream_gates", iterations=2)),
    "experts of tokens": (
        "deepseek4-hashed",
        change("token_table", table=np.tile(np.array([0, 1], np.float32), (128, 1))),
    ),
    "ends of compressed keys": ("deepseek4-compressed", change("list_positions", stride=4)),
    "what is written to streams": ("hy_v4-shared", change("stream_gates", magnitude=1.9)),
    "own blocks": ("minimax-m3-blocks", change("index_blocks", local=0)),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_detail_is_seen(files: Files, what: str) -> None:
    name, edit = WRONG[what]
    assert error(files(name), name, "cpu", edit=edit) > WRONG_NMSE


@pytest.mark.parametrize("name", ["deepseek4-compressed", *SPARSE])
def test_a_wrong_choice_is_seen(files: Files, name: str) -> None:
    tokens, expected = latent_golden(name)

    def tap(_: str, rows: Any) -> None:
        rows[:, 0] = -1  # one chosen position less

    with Runner(files(name), "cpu") as runner:
        names = [n.name for n in runner.graph.nodes if n.op.startswith("index")]
    with Runner(files(name), "cpu", max_tokens=len(tokens), taps=names) as runner:
        changed = runner.forward(tokens, tap=tap)
    assert nmse(changed[-16:], expected) > WRONG_NMSE


def _bits(path: Path, tokens: Any, step: int, **options: Any) -> Any:
    with Runner(path, "cpu", max_tokens=step, **options) as runner:
        return runner.forward(tokens).view(np.uint32)


@pytest.mark.parametrize("name", ["deepseek2-yarn-groups", "deepseek4-compressed", *SPARSE])
def test_bits_do_not_depend_on_cuts_or_threads(files: Files, name: str) -> None:
    tokens = np.tile(latent_golden(name)[0], 6)[:150]  # three pages
    whole = _bits(files(name), tokens, 150, n_threads=3, precision="fast", kv_dtype="f16")
    cut = _bits(files(name), tokens, 7, n_threads=1, precision="fast", kv_dtype="f16")
    np.testing.assert_array_equal(cut, whole)


@pytest.mark.parametrize("precision", ["fast", "exact"])
@pytest.mark.parametrize("name", ["deepseek2-yarn-groups", "dots3note-windows"])
def test_quantized_matrices_of_heads(
    files: Files, tmp_path: Path, name: str, precision: str
) -> None:
    path = quantized_copy(files(name), tmp_path / "q.gguf", "Q8_0")
    tokens = latent_golden(name)[0]
    logits, bits = [], []
    for device in ("reference", "cpu"):
        with Runner(path, device, precision=precision) as runner:
            logits.append(runner.forward(tokens))
    assert nmse(logits[1], logits[0]) < (1e-4 if precision == "fast" else 1e-9)
    for step in (1, 28):
        bits.append(_bits(path, tokens, step, precision=precision))
    np.testing.assert_array_equal(bits[0], bits[1])


def test_impossible_sizes(files: Files, tmp_path: Path) -> None:
    from jitllm.llm.config import ModelConfig

    with GGUFFile(files("deepseek2-yarn-groups")) as file:
        config = ModelConfig.from_file(file)
    values = dict(config.metadata.values)
    values["deepseek2.attention.kv_lora_rank"] = 500
    broken = dataclasses.replace(
        config, metadata=dataclasses.replace(config.metadata, values=values)
    )
    with pytest.raises(ModelFormatError, match=r"kv_lora_rank.*got 500"):
        mla.Latent.from_config(broken)


@pytest.mark.parametrize("name", ["deepseek2-yarn-groups", "deepseek4-compressed", *SPARSE])
def test_forks_and_cuts_have_the_bits_of_a_fresh_sequence(files: Files, name: str) -> None:
    """Compressed and index keys stand in pages like others: shared, copied, cut, recycled."""
    rng = np.random.default_rng(1)
    tokens, other = rng.integers(0, 128, 200).tolist(), rng.integers(0, 128, 90).tolist()
    with jitllm.load(files(name), n_ctx=256, n_threads=2, progress=False) as model:
        want = [model.sequence(ids).logits for ids in (tokens, tokens[:101] + other)]
        with model.sequence(tokens[:101]) as trunk:
            with trunk.fork() as branch:
                branch.append(other)
                trunk.append(tokens[101:])
                np.testing.assert_array_equal(trunk.logits, want[0])
                np.testing.assert_array_equal(branch.logits, want[1])
            trunk.truncate(101).append(other)
            np.testing.assert_array_equal(trunk.logits, want[1])
            trunk.truncate(101)
            for token in tokens[101:]:  # one by one, over the ends of pages and blocks
                trunk.append([token])
                last = trunk.logits
            np.testing.assert_array_equal(last, want[0])
