"""RWKV: a trained model against its makers' logits, random ones against llama.cpp's, and bits."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driver import Runner, devices, nmse
from logits import Files, change, logits_error, written_once
from numpy.typing import NDArray
from variants.rwkv import RWKV_VARIANTS, VOCAB, rwkv_golden, rwkv_model
from variants.rwkv_trained import PROMPT, trained_golden, trained_model

import jitllm
from jitllm.llm.errors import GGUFError, ModelFormatError
from jitllm.llm.loaders.gguf import GGUFFile
from jitllm.llm.models.loading import open_model

MAX_NMSE = 1e-8
WRONG_NMSE = 1e-7


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Path of a model, written once; "trained" is the trained one."""

    def write(name: str, path: Path) -> Path:
        return trained_model(path) if name == "trained" else rwkv_model(name, path)

    return written_once(tmp_path_factory.mktemp("models"), write)


def error(path: Path, name: str, device: str = "reference", **options: Any) -> float:
    """NMSE of the last 16 logits."""
    return logits_error(path, rwkv_golden(name), device, **options)


@pytest.mark.parametrize("device", devices())
def test_the_trained_model_gives_its_makers_logits(files: Files, device: str) -> None:
    with Runner(files("trained"), device) as runner:
        got = runner.forward(list(PROMPT.encode()))[-1]
    assert nmse(got, trained_golden()) <= 1e-10


@pytest.mark.parametrize("device", devices())
@pytest.mark.parametrize("name", RWKV_VARIANTS)
def test_logits_are_those_of_llama_cpp(files: Files, name: str, device: str) -> None:
    assert error(files(name), name, device) <= MAX_NMSE


def _zeros(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.zeros_like(x)


def _swapped(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(x[::-1])


WRONG = {
    "when the state is read": ("rwkv6", change("wkv", form="gated")),
    "order of mixes": ("rwkv6", change("lerp", "time_mix_mixed", factors=_swapped)),
    "mix of mixes": ("rwkv6", change("lerp", "time_mix_xx", factors=_zeros)),
    "mix of the network": ("rwkv7", change("lerp", "channel_mix", factors=_zeros)),
    "growth of decays": ("rwkv6", change("decay_gate", act="softplus")),
    "tokens' own share": ("rwkv6", change("head_bonus", factors=_zeros)),
    "gate of outputs": ("rwkv6", change("glu", "time_mix", act="sigmoid")),
    "gate of the network": ("rwkv6", change("glu", "channel_mix", act="silu")),
    "square of the network": ("rwkv7", change("activation", "key_squared", act="relu")),
    "halving": ("rwkv6-halved", change("scale", "l_out", factor=1.0)),
    "norm of states": ("rwkv7", change("head_layer_norm", eps=0.1)),
    "heads of the norm": ("rwkv7", change("head_layer_norm", group=192)),
    "scale of states": ("rwkv6qwen2", change("scale", "wkv_scaled", factor=1.0)),
    "what a key writes": ("rwkv6qwen2", change("wkv", form="before")),
    "bound of decays": ("rwkv7", change("decay_gate", bound=-0.61)),
    "scale of keys": ("rwkv7", change("lerp", "k_a", factors=_zeros)),
    "values of the first layer": ("arwkv7-plain", change("activation", "time_mix_v", act="tanh")),
    "erased keys": ("arwkv7", change("column_scale", "k_k", factors=_swapped)),
    "rows before": ("arwkv7", change("causal_conv", taps=_swapped)),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_detail_is_seen(files: Files, what: str) -> None:
    name, edit = WRONG[what]
    assert error(files(name), name, edit=edit) > WRONG_NMSE


@pytest.mark.parametrize("name", ["rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7-plain"])
def test_bits_depend_on_the_tokens_alone(files: Files, name: str) -> None:
    tokens, _ = rwkv_golden(name)
    with Runner(files(name), "cpu", max_tokens=len(tokens), n_threads=1) as runner:
        whole = runner.forward(tokens)
    for max_tokens, n_threads in ((1, 1), (5, 2), (64, 2), (79, 2)):
        with Runner(files(name), "cpu", max_tokens=max_tokens, n_threads=n_threads) as runner:
            assert np.array_equal(runner.forward(tokens), whole)


@pytest.fixture(scope="module", params=["rwkv6", "rwkv7"])
def model(request: pytest.FixtureRequest, files: Files) -> Iterator[jitllm.Model]:
    """A random model."""
    with jitllm.load(files(request.param), device="cpu", progress=False) as opened:
        yield opened


def test_forks_and_cuts_are_as_if_fresh(model: jitllm.Model) -> None:
    ids = np.random.default_rng(0).integers(0, VOCAB, 120).tolist()
    expected = model.forward(ids)
    with model.sequence(ids[:70]) as sequence, sequence.fork() as twin:
        twin.append([5, 6, 7])
        sequence.append(ids[70:])
        assert np.array_equal(sequence.logits, expected[119])
        sequence.truncate(33)
        assert np.array_equal(sequence.logits, expected[32])
        twin.truncate(70).append(ids[70:90])
        assert np.array_equal(twin.logits, expected[89])
        sequence.append(ids[33:50])
        assert np.array_equal(sequence.logits, expected[49])


def test_text_goes_in_and_comes_out(files: Files) -> None:
    """Ids and the likeliest continuation are those of llama.cpp."""
    with jitllm.load(files("trained"), device="cpu", progress=False) as model:
        assert model.tokenize('h\u00e4\n\x01"\\') == [104, 195, 164, 10, 1, 34, 92]
        answer = model.generate(PROMPT, max_tokens=120, temperature=0)
        assert answer.text == " the" * 30
        assert model.detokenize(list(b'"in\xc3\xa4')) == '"in\u00e4'


@pytest.mark.parametrize(
    ("name", "size", "keys", "kind", "message"),
    [
        ("rwkv7", 0, {}, ModelFormatError, r"wkv\.head_size': expected a divisor of 192, got 0"),
        ("rwkv7", 7, {}, ModelFormatError, "divisor of 192, got 7"),
        ("rwkv7", 32, {}, None, ""),
        ("rwkv6qwen2", 32, {"attention.head_count_kv": 3}, ModelFormatError, "divisor of 4, got 3"),
        ("rwkv6", 16, {"time_mix_extra_dim": 6}, GGUFError, r"time_mix_w1.*\(30, 80\), got \(35"),
        ("rwkv6", 20, {}, GGUFError, r"time_mix_first.*\(4, 20\), got \(5, 16\)"),
    ],
)
def test_sizes_must_fit_together(
    tmp_path: Path, name: str, size: int, keys: dict[str, int], kind: Any, message: str
) -> None:
    n, _, own, layer = RWKV_VARIANTS[name]
    path = rwkv_model(name, tmp_path / "m.gguf", (n, size, own | keys, layer))
    wrong = pytest.raises(kind, match=message) if kind else contextlib.nullcontext()
    with GGUFFile(path) as file, wrong:
        open_model(file, "reference")
