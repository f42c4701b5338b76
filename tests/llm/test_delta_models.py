"""Models with delta nets against llama.cpp's logits, on every backend that is here."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driver import Runner, devices, nmse
from logits import MAX_NMSE, WRONG_NMSE, Files, change, last_logits, written_once
from tiny import write_gguf
from variants.delta import DELTA_VARIANTS, delta_golden, delta_model

from jitllm.llm.errors import GGUFError, ModelFormatError
from jitllm.llm.loaders.gguf import GGUFFile, StringArray
from jitllm.llm.models.loading import open_model


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Path of a variant, written once."""
    return written_once(tmp_path_factory.mktemp("delta"), delta_model)


def error(path: Path, name: str, device: str = "reference", **options: Any) -> float:
    """NMSE of those of the last 16 logits that can be compared."""
    (tokens, expected), rows = delta_golden(name), DELTA_VARIANTS[name].rows
    return nmse(last_logits(path, tokens, device, **options)[rows], expected[rows])


@pytest.mark.parametrize("device", devices())
@pytest.mark.parametrize("name", DELTA_VARIANTS)
def test_logits_are_those_of_llama_cpp(files: Files, name: str, device: str) -> None:
    assert error(files(name), name, device) <= MAX_NMSE


_EYE = np.eye(4, 128, dtype=np.float32)
WRONG = {
    "key heads side by side": ("qwen3next-heads", change("delta_net", tiled=True)),
    "key heads in turns": ("qwen35-heads", change("delta_net", tiled=False)),
    "scale of a delta net": ("qwen35-heads", change("delta_net", scale=0.1)),
    "convolution": ("kimi-linear-heads", change("causal_conv", act="")),
    "gate of delta nets": ("qwen35-heads", change("gated", act="sigmoid")),
    "gate of attention": ("kimi-linear-heads", change("gated", act="silu")),
    "bound of the decay": ("kimi-k3-blocks", change("decay_gate", bound=-4.0)),
    "no bound of the decay": ("bailingmoe3-limits", change("decay_gate", bound=None)),
    "pairs of rope": ("bailingmoe3-limits", change("rope", kind="norm")),
    "limits of units": ("bailingmoe3-limits", change("bounded_glu", bounds=(0.6, 0.0))),
    "end of a text": ("qwen4exp-ends", change("ngram_embed", end=6)),
    "scale of roots": ("qwen4exp-ends", change("signed_root_dot", scale=0.1)),
    "positions of blocks": ("qwen4exp-chosen", change("rope_behind", behind=0)),
    "means of keys": (
        "glm5-next-chosen",
        change("compress", ape=np.eye(4, 128, dtype=np.float32)),
    ),
    "length of keys": ("glm5-next-streams", change("rms_norm", eps=0.05)),
    "factor of experts": ("kimi-linear-heads", change("experts", factor=2.0)),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_detail_is_seen(files: Files, what: str) -> None:
    name, edit = WRONG[what]
    assert error(files(name), name, edit=edit) > WRONG_NMSE


@pytest.mark.parametrize(
    "name", ["qwen3next-heads", "kimi-k3-blocks", "qwen4exp-ends", "glm5-next-streams"]
)
def test_bits_do_not_depend_on_how_a_prompt_is_cut(files: Files, name: str) -> None:
    tokens, _ = delta_golden(name)
    logits = []
    for max_tokens, n_threads in ((28, 1), (5, 2), (1, 1)):
        with Runner(files(name), "cpu", max_tokens=max_tokens, n_threads=n_threads) as runner:
            logits.append(runner.forward(tokens))
    assert np.array_equal(logits[0], logits[1])
    assert np.array_equal(logits[0], logits[2])


def _copy(path: Path, target: Path, metadata: dict[str, Any], tensors: dict[str, Any]) -> Path:
    """A copy of a model with keys and tensors changed, added, or left out (None)."""
    with GGUFFile(path) as file:
        values = {k: list(v) if isinstance(v, StringArray) else v for k, v in file.metadata.items()}
        arrays: dict[str, Any] = {
            name: file.data(name).view(np.float32).reshape(info.shape).copy()
            for name, info in file.tensors.items()
        }
    kept = {name: array for name, array in (arrays | tensors).items() if array is not None}
    return write_gguf(target, values | metadata, kept)


@pytest.mark.parametrize("device", devices())
def test_layers_that_predict_further_tokens_are_left_out(
    files: Files, tmp_path: Path, device: str
) -> None:
    more = {
        "blk.3.attn_norm.weight": np.ones(256, np.float32),
        "blk.3.nextn.eh_proj.weight": np.ones((256, 512), np.float32),
        "blk.3.nextn.enorm.weight": np.ones(256, np.float32),
    }
    keys = {"qwen35.block_count": 4, "qwen35.nextn_predict_layers": 1}
    path = _copy(files("qwen35-heads"), tmp_path / "m.gguf", keys, more)
    assert error(path, "qwen35-heads", device) <= MAX_NMSE
    with GGUFFile(path) as file:
        model = open_model(file, device)
    assert set(more) <= set(model.unused)
    model.backend.close()


def test_keys_and_values_of_heads_in_one_matrix(files: Files, tmp_path: Path) -> None:
    name, blk = "kimi-linear-heads", "blk.0.attn_"
    with GGUFFile(files(name)) as file:
        k, v = (
            file.data(f"{blk}{part}_b.weight").view(np.float32).reshape(shape)
            for part, shape in (("k", (2, 512, 128)), ("v", (2, 128, 512)))
        )
        both = np.concatenate([k.transpose(0, 2, 1), v], axis=1).reshape(512, 512)
        drop = {f"{blk}k_b.weight": None, f"{blk}v_b.weight": None}
        tensors = {f"{blk}kv_b.weight": np.ascontiguousarray(both)} | drop
        path = _copy(files(name), tmp_path / "m.gguf", {}, tensors)
    assert error(path, name) <= MAX_NMSE


def _open(path: Path, **options: Any) -> Any:
    with GGUFFile(path) as file:
        return open_model(file, "reference", **options)


BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "heads": ("qwen35-heads", {"qwen35.ssm.group_count": 3}, "ssm.group_count"),
    "interval": ("qwen3next-heads", {"qwen3next.full_attention_interval": 0}, "1 or more, got 0"),
    "taps": ("kimi-linear-heads", {"kimi-linear.ssm.conv_kernel": 1}, "2 or more"),
    "bound": ("bailingmoe3-text", {"bailingmoe3.kda.gate_lower_bound": 2.0}, "a negative number"),
    "unit": ("kimi-k3-blocks", {"kimi-k3.activation.situ_beta": 0.0}, "a positive number"),
    "streams": ("qwen4exp-ends", {"qwen4exp.hyper_connection.count": 1}, "got 1 and 8"),
    "mixes": ("glm5-next-streams", {"glm5-next.hyper_connection.sinkhorn_iterations": 0}, "and 0"),
    "hashes": ("qwen4exp-ends", {"qwen4exp.ple.ngram_size": 1}, "got 1 and 0 hashes"),
    "end": ("qwen4exp-ends", {"qwen4exp.ple.eos_token_id": -1}, "and -1"),
    "sections": (
        "qwen35-heads", {"qwen35.rope.dimension_sections": np.array([1, -1, 0, 0], np.int32)},
        "no negative number",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_impossible_sizes(files: Files, tmp_path: Path, what: str) -> None:
    name, keys, message = BAD[what]
    path = _copy(files(name), tmp_path / "m.gguf", keys, {})
    with pytest.raises(ModelFormatError, match=message):
        _open(path)


def test_hashes_beyond_the_table(files: Files, tmp_path: Path) -> None:
    sizes = {"qwen4exp.ple.head_vocab_sizes": np.array([120, 100, 128, 129], np.uint64)}
    path = _copy(files("qwen4exp-ends"), tmp_path / "m.gguf", sizes, {})
    with pytest.raises(GGUFError, match="per_layer_token_embd"):
        _open(path)


@pytest.mark.parametrize("name", ["qwen4exp-chosen", "glm5-next-chosen"])
def test_contexts_that_the_index_covers_need_none(files: Files, name: str) -> None:
    tokens, _ = delta_golden(name)
    logits = []
    for n_ctx in (8, 9):
        with Runner(files(name), n_ctx=n_ctx) as runner:
            ops = {node.op for node in runner.graph.nodes}
            assert ("index_positions" in ops) == ("sparse_attention" in ops) == (n_ctx > 8)
            logits.append(runner.forward(tokens[:8]))
    np.testing.assert_allclose(logits[1], logits[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["qwen4exp-chosen", "glm5-next-chosen"])
def test_impossible_indexes(files: Files, tmp_path: Path, name: str) -> None:
    for key, value in {"head_count": 0, "top_k": 3}.items():
        keys = {f"{name.rpartition('-')[0]}.attention.indexer.{key}": value}
        path = _copy(files(name), tmp_path / f"{key}.gguf", keys, {})
        with pytest.raises(ModelFormatError, match=r"attention\.indexer\.head_count"):
            _open(path, n_ctx=64)
