"""Files of llama.cpp for each kind of memory: recurrent, hybrid, latent, indexed, quantized."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny import conformance_model
from variants.encoders import encoder_model
from variants.remembered import N_CTX, N_TOKENS, SAVED, remembered, sampled, tokens, write_model
from variants.written import written_model

import jitllm
from jitllm.llm.errors import JitllmError, StateError, UnsupportedArchitecture
from jitllm.llm.state_files import llama_cpp

Floats = NDArray[np.float32]

WHOLE = [(name, form) for name, saved in SAVED.items() for form in saved.forms]
SAMPLED = [name for name, saved in SAVED.items() if not saved.forms]
_LIMITS = {"f32": 1e-9, "f16": 1e-6, "bf16": 1e-5}  # others are quantized: each rounds in its way
_MIXED = 3e-2


@contextmanager
def _open(name: str, folder: Path, kv_dtype: str = "") -> Iterator[jitllm.Model]:
    path = write_model(name, folder / "model.gguf")
    kv_dtype = kv_dtype or SAVED[name].kv_dtype
    options: dict[str, Any] = {"n_ctx": N_CTX, "n_threads": 1, "kv_dtype": kv_dtype}
    with jitllm.load(path, precision="exact", progress=False, **options) as model:
        yield model


def _error(logits: Floats, wanted: Floats) -> float:
    return float(np.sum((logits - wanted) ** 2) / np.sum(wanted**2))


def _next(sequence: jitllm.Sequence, ids: list[int]) -> list[Floats]:
    return [sequence.append([token]).logits for token in ids[N_TOKENS:]]


@pytest.mark.parametrize(("name", "form"), WHOLE)
def test_what_llama_cpp_saved_goes_on(name: str, form: str, tmp_path: Path) -> None:
    """Whatever type the cache here has; and written again, it is what it was."""
    found, saved = remembered(name), SAVED[name]
    path = tmp_path / form
    path.write_bytes(found[form].tobytes())
    limit = _LIMITS.get(saved.kv_dtype, _MIXED)
    with _open(name, tmp_path) as model:
        ids = tokens(model.n_vocab)
        with llama_cpp.load(model, path) as sequence:
            assert sequence.token_ids == ids[:N_TOKENS] and not sequence.n_pending
            again = tmp_path / "again"
            flags: dict[str, Any] = {"session": form == "ggsn", "flash_attention": saved.flash}
            llama_cpp.save(sequence, again, **flags)
            _check_same(name, np.frombuffer(again.read_bytes(), np.uint8), found[form])
            for logits, wanted in zip(_next(sequence, ids), found["logits"], strict=True):
                assert _error(logits, wanted) < limit
    with _open(name, tmp_path, "f32") as model, llama_cpp.load(model, path) as sequence:
        for logits, wanted in zip(_next(sequence, ids), found["logits"], strict=True):
            assert _error(logits, wanted) < limit


def _check_same(name: str, ours: NDArray[np.uint8], theirs: NDArray[np.uint8]) -> None:
    """Bytes are the same, but where rows are turned there and not here, or here and not there."""
    is_turned = name in ("lfm2-windows", "deepseek2-yarn-groups", "deepseek32-chosen")
    assert ours.size == theirs.size and np.array_equal(ours, theirs) != is_turned


@pytest.mark.parametrize("name", SAMPLED)
def test_order_of_numbers(name: str, tmp_path: Path) -> None:
    """Every number of a file of ours is where llama.cpp has it; read again, it goes on exactly."""
    found, path = remembered(name), tmp_path / "state"
    with _open(name, tmp_path) as model:
        ids = tokens(model.n_vocab)
        with model.sequence(ids[:N_TOKENS]) as sequence:
            llama_cpp.save(sequence, path, flash_attention=SAVED[name].flash)
            expected = _next(sequence, ids)
        ours, theirs = sampled(path.read_bytes()), found["sampled"]
        assert ours.size == theirs.size
        differing = ours != theirs
        a, b = (words[differing].view(np.float32) for words in (ours, theirs))
        assert np.allclose(a, b, rtol=1e-3, atol=1e-5)
        for logits, wanted in zip(expected, found["logits"], strict=True):
            assert _error(logits, wanted) < 1e-9
        for session in (False, True):
            with llama_cpp.load(model, path) as again:
                assert not again.n_pending
                llama_cpp.save(again, path, session=session, n_stream=2)
                assert all(map(_is_near, _next(again, ids), expected))


def _is_near(logits: Floats, wanted: Floats) -> bool:
    """The same bits, but where keys were turned to the file's form and back."""
    return _error(logits, wanted) < 1e-10


@pytest.mark.parametrize("name", ["rwkv6", "falcon-h1-heads", "lfm2-windows", "kimi-linear-heads"])
@pytest.mark.parametrize("n_tokens", [1, 3, 64, 130])
def test_what_is_written_comes_back(name: str, n_tokens: int, tmp_path: Path) -> None:
    """Every bit; and as another type, if that is asked for."""
    with _open(name, tmp_path, "f16") as model:
        ids = [int(t) for t in np.random.default_rng(5).integers(0, model.n_vocab, n_tokens)]
        with model.sequence(ids) as sequence:
            expected = sequence.fork().append([5]).logits
            for session in (False, True):
                path = tmp_path / "state"
                llama_cpp.save(sequence, path, session=session)
                with llama_cpp.load(model, path) as found:
                    assert found.token_ids == ids and not found.n_pending
                    assert np.array_equal(found.append([5]).logits, expected)
                llama_cpp.save(sequence, path, session=session, kv_dtype="f32/q8_0")
                with llama_cpp.load(model, path) as found:
                    assert _error(found.append([5]).logits, expected) < _MIXED


def test_a_sequence_without_cells(tmp_path: Path) -> None:
    with _open("falcon-h1-heads", tmp_path) as model:
        with model.sequence([]) as sequence:
            sequence.append([1, 2, 3]).truncate(2)  # there is no state to go back to
            llama_cpp.save(sequence, tmp_path / "state")
        with llama_cpp.load(model, tmp_path / "state") as found:
            assert found.token_ids == [1, 2] and found.n_pending == 2


def test_states_of_more_tokens_than_there_are(tmp_path: Path) -> None:
    """States cannot be cut: all is computed again."""
    path = tmp_path / "state"
    content = remembered("rwkv6")["ggsq"].tobytes()
    path.write_bytes(content[:8] + (3).to_bytes(4, "little") + content[12:24] + content[60:])
    with _open("rwkv6", tmp_path) as model:
        ids = tokens(model.n_vocab)[:3]
        with llama_cpp.load(model, path) as found, model.sequence(ids) as own:
            assert found.token_ids == ids and found.n_pending == 3
            assert np.array_equal(found.logits, own.logits)


def test_pictures_are_refused(tmp_path: Path) -> None:
    """Their tokens have positions of their own along each axis."""
    content = bytearray(remembered("qwen2vl-dense.gqa")["ggsq"].tobytes())
    cells = 12 + 4 * N_TOKENS + 8
    content[cells + 5 * 24 + 8 :][:4] = b"\x09\0\0\0"
    content[cells + 5 * 24 + 8 : cells + 5 * 24 + 12] = b"\x09\0\0\0"
    path = tmp_path / "state"
    path.write_bytes(content)
    with _open("qwen2vl-dense.gqa", tmp_path) as model:
        with pytest.raises(StateError, match="expected cells of text, got one at position 5"):
            llama_cpp.load(model, path)


def test_what_needs_flash_attention(tmp_path: Path) -> None:
    with _open("minimax-m3-blocks", tmp_path) as model, model.sequence([1, 2, 3]) as sequence:
        with pytest.raises(StateError, match="expected flash attention"):
            llama_cpp.save(sequence, tmp_path / "state", flash_attention=False)
    with _open("llama-yarn", tmp_path) as model, model.sequence([1, 2, 3]) as sequence:
        with pytest.raises(StateError, match="expected flash attention"):
            llama_cpp.save(sequence, tmp_path / "state", flash_attention=False)
        with pytest.raises(StateError, match="kv_dtype must be one of"):
            llama_cpp.save(sequence, tmp_path / "state", kv_dtype="q3_0")
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]


@pytest.mark.parametrize(
    ("make", "name", "reason"),
    [
        (conformance_model, "deepseek4-moe", "compressed caches"),
        (conformance_model, "qwen4exp-moe.routed", "a second row of states"),
        (conformance_model, "glm5-next-moe.routed", "an index key for each token"),
        (conformance_model, "glm-dsa-moe", "for which n_ctx=64 is too small"),
        (written_model, "t5", "what the encoder read"),
        (encoder_model, "bert", "remember nothing"),
    ],
)
def test_refused(make: Callable[[str, Path], Path], name: str, reason: str, tmp_path: Path) -> None:
    path = make(name, tmp_path / "model.gguf")
    with jitllm.load(path, n_ctx=64, n_threads=1, progress=False) as model:
        with pytest.raises(UnsupportedArchitecture, match=reason):
            llama_cpp.load(model, tmp_path / "state")


@pytest.mark.parametrize("name", ["rwkv6", "lfm2-windows", "qwen2vl-dense.gqa"])
def test_damaged_files(name: str, tmp_path: Path) -> None:
    whole, path = remembered(name)["ggsn"].tobytes(), tmp_path / "state"
    random = np.random.default_rng(2)
    with _open(name, tmp_path) as model:
        for length in (*range(0, 400, 7), *range(400, len(whole), 997)):
            path.write_bytes(whole[:length])
            with pytest.raises(StateError):
                llama_cpp.load(model, path)
        for _ in range(100):
            content = bytearray(whole)
            for place in random.integers(0, random.choice((300, len(whole))), 3):
                content[place] = random.integers(256)
            path.write_bytes(content)
            try:
                llama_cpp.load(model, path).close()
            except JitllmError:
                continue
        assert model.memory()["caches_used"] == 0
