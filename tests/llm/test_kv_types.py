"""Types of cached keys and values: the same bits whatever way, views, state files, refusals."""

from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest
from models import model_path
from numpy.typing import NDArray
from tiny import conformance_model, write_gguf

import jitllm
from jitllm.llm.commands._options import _kv_dtype
from jitllm.llm.errors import BackendError, StateError

Floats = NDArray[np.float32]

TYPES = ["bf16", "q8_0", "q5_1/q4_1", "q4_0", "q5_0/iq4_nl"]
N_LAYERS, N_EMBD, N_FF, N_VOCAB = 2, 128, 96, 60
TOKENS = np.random.default_rng(5).integers(0, N_VOCAB, 200).tolist()


def _write_model(path: Path, head_dim: int = 64) -> Path:
    """A small llama with random weights."""
    n_heads, rng = N_EMBD // head_dim, np.random.default_rng(1)
    layer = {
        "attn_q": (N_EMBD, N_EMBD), "attn_k": (head_dim, N_EMBD), "attn_v": (head_dim, N_EMBD),
        "attn_output": (N_EMBD, N_EMBD), "ffn_gate": (N_FF, N_EMBD), "ffn_up": (N_FF, N_EMBD),
        "ffn_down": (N_EMBD, N_FF), "attn_norm": (N_EMBD,), "ffn_norm": (N_EMBD,),
    }  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {
        f"blk.{i}.{name}.weight": shape for i in range(N_LAYERS) for name, shape in layer.items()
    }
    shapes |= {"token_embd.weight": (N_VOCAB, N_EMBD), "output_norm.weight": (N_EMBD,)}
    metadata = {
        "llama.context_length": 512, "llama.embedding_length": N_EMBD,
        "llama.block_count": N_LAYERS, "llama.feed_forward_length": N_FF,
        "llama.attention.head_count": n_heads, "llama.attention.head_count_kv": 1,
        "llama.attention.layer_norm_rms_epsilon": 1e-5, "llama.vocab_size": N_VOCAB,
        "llama.rope.dimension_count": head_dim,
    }  # fmt: skip
    tensors = {
        name: (rng.standard_normal(shape) * (0.12 if len(shape) > 1 else 1)).astype(np.float32)
        for name, shape in shapes.items()
    }
    return write_gguf(path, metadata, tensors)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write_model(tmp_path_factory.mktemp("kv") / "tiny.gguf")


@pytest.fixture(scope="module")
def load(path: Path) -> Callable[..., jitllm.Model]:
    def open_it(kv_dtype: str, **options: object) -> jitllm.Model:
        given = {"n_threads": 2, "progress": False, **options}
        return jitllm.load(path, kv_dtype=kv_dtype, **given)  # type: ignore[arg-type]

    return open_it


def _fed(model: jitllm.Model, tokens: list[int], size: int) -> Floats:
    rows: list[Floats] = []
    with model.sequence() as sequence:
        for start in range(0, len(tokens), size):
            piece = tokens[start : start + size]
            rows += sequence.extend(piece, np.arange(len(piece)))
    return np.concatenate(rows)


@pytest.mark.parametrize("kv_dtype", TYPES)
def test_devices_agree(load: Callable[..., jitllm.Model], kv_dtype: str) -> None:
    """The error of a type is its own: the reference backend makes the same one."""
    with load(kv_dtype) as cpu, load(kv_dtype, device="reference") as reference, load("f32") as f32:
        far, near, exact = (model.forward(TOKENS) for model in (cpu, reference, f32))
    assert np.abs(far - near).mean() < 0.5 * np.abs(near - exact).mean()
    assert np.abs(near - exact).mean() < 0.3 * exact.std()


@pytest.mark.parametrize("kv_dtype", TYPES)
def test_same_bits(load: Callable[..., jitllm.Model], kv_dtype: str) -> None:
    """Chunks, threads, forks, cuts and neighbours change none."""
    with load(kv_dtype) as model:
        logits = model.forward(TOKENS)
        for size in (1, 7, 64, 65):
            assert np.array_equal(_fed(model, TOKENS, size), logits)
        with model.sequence(TOKENS[:100]) as sequence, sequence.fork() as twin:
            twin.append([5, 6, 7])
            sequence.truncate(70).append(TOKENS[70:])
            assert np.array_equal(sequence.logits, logits[-1])
            twin.truncate(100).append(TOKENS[100:])
            assert np.array_equal(twin.logits, logits[-1])
    with load(kv_dtype, n_threads=1) as model:
        assert np.array_equal(model.forward(TOKENS), logits)


@pytest.mark.parametrize("kv_dtype", ["q8_0", "q4_0"])
def test_same_bits_of_a_real_model(kv_dtype: str) -> None:
    options = {"kv_dtype": kv_dtype, "n_ctx": 256, "progress": False}
    with jitllm.load(model_path("smollm2"), n_threads=2, **options) as model:  # type: ignore[arg-type]
        tokens = model.tokenize(Path(__file__).read_text("utf-8"))[:130]
        logits = model.forward(tokens)
        for size in (1, 6, 64):
            assert np.array_equal(_fed(model, tokens, size), logits)


@pytest.mark.parametrize("kv_dtype", TYPES)
def test_states_of_the_same_type_go_on_with_the_same_bits(
    load: Callable[..., jitllm.Model], kv_dtype: str, tmp_path: Path
) -> None:
    file = tmp_path / "s.jitllm"
    with load(kv_dtype) as model, model.sequence(TOKENS[:90]) as sequence:
        assert len(sequence.logits) == N_VOCAB
        sequence.save(file)
        sequence.append(TOKENS[90:150])
        sequence.save(file)  # only the cells that are new
        expected = sequence.append(TOKENS[150:]).logits
    with load(kv_dtype) as model, model.load_sequence(file) as found:
        assert found.n_pending == 0
        assert np.array_equal(found.append(TOKENS[150:]).logits, expected)
    with load(kv_dtype, device="reference") as model, model.load_sequence(file) as found:
        np.testing.assert_allclose(found.append(TOKENS[150:]).logits, expected, atol=0.2)


@pytest.mark.parametrize("kv_dtype", TYPES)
def test_states_of_another_type_are_converted(
    load: Callable[..., jitllm.Model],
    kv_dtype: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """f16 -> another type -> f16; the keys stay what that type makes of them."""
    files = [tmp_path / f"{i}.jitllm" for i in range(2)]
    with load("f16") as model, model.sequence(TOKENS[:100]) as sequence:
        before = [np.asarray(x) for x in (sequence.kv[1].k, sequence.kv[1].v)]
        assert len(sequence.logits) == N_VOCAB
        sequence.save(files[0])
        with load(kv_dtype) as other, other.load_sequence(files[0]) as found:
            kept = [np.asarray(x) for x in (found.kv[1].k, found.kv[1].v)]
            found.save(files[1])
        with model.load_sequence(files[1]) as found:
            after = [np.asarray(x) for x in (found.kv[1].k, found.kv[1].v)]
            far = found.append([9]).logits - sequence.append([9]).logits
            assert np.abs(far).mean() < 0.4 * sequence.logits.std()
    assert f"is converted to {kv_dtype}" in caplog.text and "is converted to f16" in caplog.text
    for old, middle, new in zip(before, kept, after, strict=True):
        assert 0 < np.abs(middle - old).max() < 0.2 * np.abs(old).max()
        np.testing.assert_allclose(new, middle, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kv_dtype", ["q4_0", "iq4_nl"])
def test_edits_change_what_is_edited(load: Callable[..., jitllm.Model], kv_dtype: str) -> None:
    with load(kv_dtype) as model, model.sequence(TOKENS[:100]) as sequence:
        assert len(sequence.logits) == N_VOCAB
        layer = sequence.kv[0]
        k, v = np.asarray(layer.k), np.asarray(layer.v)
        layer.k[30] = 2 * k[30]
        assert np.array_equal(np.delete(np.asarray(layer.k), 30, 0), np.delete(k, 30, 0))
        assert np.array_equal(np.asarray(layer.v), v)
        np.testing.assert_allclose(layer.k[30], 2 * k[30], atol=0.1 * np.abs(k[30]).max())


def test_a_state_of_an_unknown_type_is_refused(
    load: Callable[..., jitllm.Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with load("q8_0") as model, model.sequence(TOKENS[:10]) as sequence:
        assert len(sequence.logits) == N_VOCAB
        for pool in sequence._now.cells.pools:
            monkeypatch.setattr(pool.pool, "kv_dtype", "q9_9", raising=True)
        with pytest.raises(StateError, match="kv_dtype must be one of f32, f16, bf16, q8_0"):
            sequence.save(tmp_path / "s.jitllm")


@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_heads_that_are_no_blocks_are_refused(tmp_path: Path, device: str) -> None:
    path = _write_model(tmp_path / "odd.gguf", head_dim=16)
    with pytest.raises(ValueError, match="q4_0 needs heads of a multiple of 32 numbers, this mod"):
        jitllm.load(path, kv_dtype="q4_0", device=device, progress=False)
    with pytest.raises(ValueError, match="kv_dtype must be one of f32, f16, bf16, q8_0"):
        jitllm.load(path, kv_dtype="q3_0", device=device, progress=False)


def test_pairs_of_types(load: Callable[..., jitllm.Model]) -> None:
    with load(("q8_0", "q4_0")) as model, load("q8_0/q4_0") as same:
        assert model.settings["kv_dtype"] == "q8_0/q4_0"
        assert np.array_equal(model.forward(TOKENS), same.forward(TOKENS))
        sizes = [m.memory()["caches"] for m in (model, same)]
        assert sizes[0] == sizes[1]


def test_types_of_the_command_line() -> None:
    assert _kv_dtype("f16", None, None) == "f16"
    assert _kv_dtype("q8_0/q4_0", None, None) == "q8_0/q4_0"
    assert _kv_dtype("f16", "q8_0", None) == "q8_0/f16"
    assert _kv_dtype("q8_0/q4_0", None, "q8_0") == "q8_0"
    with pytest.raises(click.BadParameter, match="must be one of"):
        _kv_dtype("f16", "q9", None)


def test_sparse_attention_on_the_cpu_says_what_it_needs(tmp_path: Path) -> None:
    path = conformance_model("deepseek4-moe", tmp_path / "sparse.gguf")
    with pytest.raises(BackendError, match=r"needs a cache of type f16 or f32, got bf16; load"):
        jitllm.load(path, kv_dtype="bf16", progress=False)
