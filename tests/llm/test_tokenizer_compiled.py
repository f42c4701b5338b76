"""Huge texts get the ids that the loops in Python give."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vocabularies import (
    NAMES,
    bpe_metadata,
    built,
    kind_tokenizer,
    metadata,
    real_tokenizer,
    recorded,
    spm_metadata,
)

from jitllm.llm.errors import ModelFormatError
from jitllm.llm.tokenizer import (
    Tokenizer,
    compiled,
    model_bert,
    model_gpt2,
    model_llama,
    model_rwkv,
    model_t5,
)

MODULES = (model_bert, model_gpt2, model_llama, model_rwkv, model_t5)
LONGEST = ("bert_accents", "bert_cased", "bert_strip", "bert-bge", "rwkv", "rwkv_bos")
T5 = ("t5_ab", "t5_bos", "t5_cross", "t5_map", "t5_none", "t5_plain")
LETTERS = "aabbc  \n\n,.;0123é日本語\u2581\u0301😀\x00\x1f\x7f"
TEXTS = st.text(
    st.sampled_from(LETTERS) | st.characters(exclude_categories=["Cs"]), max_size=80
)  # fmt: skip


@contextmanager
def huge_from(n_chars: int) -> Iterator[None]:
    """Use the compiled loops for texts of so many characters and more."""
    with pytest.MonkeyPatch.context() as patch:
        for module in MODULES:
            patch.setattr(module, "HUGE_TEXT", range(n_chars, 1 << 50))
        yield


def both(tokenizer: Tokenizer, text: str) -> tuple[list[int], list[int]]:
    """Ids by the compiled loops, and by those in Python; none where there is no unknown token."""
    ids = []
    for n_chars in (1, 1 << 40):
        with huge_from(n_chars):
            try:
                ids.append(tokenizer.encode(text))
            except ModelFormatError:
                ids.append([])
    return ids[0], ids[1]


def _own_merges() -> Tokenizer:
    """Merges of one pair twice, over several splits, to what is no token, and of equal ends."""
    tokens = dict.fromkeys(["ab", "abc", "bc", "cb", "aa", "Ġa", "ĠaĠ"], 1)
    data = bpe_metadata(tokens)
    data["tokenizer.ggml.merges"] = [
        "b c", "a bc", "a b", "b c", "a a", "c b", "d e", "Ġ a", "Ġa Ġ", "aa aa", "x", " y",
    ]  # fmt: skip
    return built(data)


MADE: dict[str, Callable[[], Tokenizer]] = {
    "spm": lambda: built(spm_metadata({"▁▁": 1, "ba": 1, "bab": 4, "\n\n": 1, "日本": 1})),
    "spm without bytes": lambda: built(
        metadata("llama", {"<unk>": 2, "a": 1, "b": 1, "ab": 1, "é": 1, "aab": 1})
    ),
    "equal scores": lambda: built(
        spm_metadata({"ba": 1, "aa": 1, "aab": 1})
        | {"tokenizer.ggml.scores": [0.0] * (3 + 256 + 7 + 3)}
    ),
    "own merges": _own_merges,
    "whole words": lambda: built(
        bpe_metadata({"abc": 1, "Ġabc": 1, "cab": 1}, pre="llama-bpe")
    ),
    "raw": lambda: built(
        metadata(
            "gemma4",
            {"<pad>": 3, "<eos>": 3, "<bos>": 3, "<unk>": 2}
            | {f"<0x{byte:02X}>": 6 for byte in range(256)}
            | dict.fromkeys(["▁", "a", "b", "ab", "▁a", "▁ab", "\n", "\n\n", "日"], 1),
            ["a b", "▁ a", "▁a b"],
        )
    ),
    "ranks of tokens": lambda: built(
        {
            key: value
            for key, value in bpe_metadata({"abc": 1, "bc": 1, "aa": 1}, pre="kimi-k2").items()
            if key != "tokenizer.ggml.merges"
        }
    ),
}  # fmt: skip
CASES: dict[str, Callable[[], Tokenizer]] = {
    **MADE,
    **{name: lambda name=name: real_tokenizer(name) for name in NAMES},  # type: ignore[misc]
    **{name: lambda name=name: kind_tokenizer(name) for name in (*T5, *LONGEST)},  # type: ignore[misc]
}


@pytest.mark.parametrize("name", CASES)
def test_ids_are_the_same(name: str) -> None:
    tokenizer = CASES[name]()

    @settings(max_examples=60, deadline=None)
    @given(TEXTS)
    def check(text: str) -> None:
        got, want = both(tokenizer, text)
        assert got == want

    check()


@pytest.mark.parametrize("name", [*NAMES, "t5_map", "spm", "bert-bge", "rwkv"])
def test_long_runs_are_the_same(name: str) -> None:
    tokenizer = CASES[name]()
    rng = np.random.default_rng(0)
    letters = "".join(map(chr, rng.integers(97, 123, 3000)))
    for text in (
        "a" * 5000,
        " " * 3000,
        "\n" * 3000,
        letters,
        "1" * 999,
        "abab " * 400 + "é" * 999,
    ):
        got, want = both(tokenizer, text)
        assert got == want


def test_other_texts_do_not_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("compiled loops were asked for")

    monkeypatch.setattr(compiled, "_launch", refuse)
    assert kind_tokenizer("t5_map").encode("a word " * 1000)
    assert real_tokenizer("gpt-2").encode("a word " * 1000)
    assert real_tokenizer("phi-3").encode("a word " * 1000)


def test_a_vocabulary_may_be_too_large_for_a_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_NODES", 1 << 9)
    assert compiled.Trie([b"ab", b"abc", b"ab"]).nodes.tolist() == [2, 3, 2]
    many = {b"%04d" % i: i for i in range(600)}
    with pytest.raises(OverflowError, match="600 tokens has more than 512 nodes"):
        compiled.Trie(list(many))
    assert compiled.merger(many, range(600)) is None
    assert compiled.merger({b"a": 0, b"b": 1}, [0.0, float("nan")]) is None
    assert compiled.longest(many, whole=True) is None
    assert compiled.cover({text: (0.0, i) for text, i in many.items()}, 0, -1.0) is None
    got, want = both(real_tokenizer("gpt-2"), "a word")
    assert got == want


def test_a_trie_grows_with_its_merges() -> None:
    merges = [b"%d x%d" % (i, i) for i in range(3000)]
    trie = compiled.Trie([b"a"], merges)
    assert trie.n_nodes == len({m[:n] for m in _parts(merges) for n in range(len(m) + 1)} | {b"a"})
    assert np.count_nonzero(trie.joins[:, 0]) == 3000


def _parts(merges: list[bytes]) -> list[bytes]:
    return [part for merge in merges for part in (*merge.split(b" "), merge.replace(b" ", b""))]


def _worst_texts() -> dict[str, str]:
    rng, size = np.random.default_rng(0), 1 << 20
    return {
        "one letter": "a" * size,
        "letters": "".join(map(chr, rng.integers(97, 123, size))),
        "marks": "".join(map(chr, rng.integers(33, 48, size))),
        "han": "".join(map(chr, rng.integers(0x4E00, 0x9FA5, size // 3))),
        "spaces": " " * size,
        "newlines": "\n" * size,
    }


@pytest.mark.slow
@pytest.mark.parametrize("what", _worst_texts())
@pytest.mark.parametrize("name", ["phi-3", "gpt-2", "falcon", "t5_map", "bert-bge", "rwkv"])
def test_a_megabyte_takes_less_than_a_second(name: str, what: str) -> None:
    tokenizer, text = CASES[name](), _worst_texts()[what]
    tokenizer.encode(text)  # compiles, and builds tables
    start = time.process_time()
    tokenizer.encode(text)
    assert time.process_time() - start < 1


def test_vocabularies_have_what_the_tests_need() -> None:
    assert recorded("gpt-2")["metadata"]["tokenizer.ggml.model"] == "gpt2"
    assert real_tokenizer("phi-3").encode("a")[-1] >= 0
