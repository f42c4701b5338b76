"""The rules around tokenizing, on small vocabularies, and damaged files."""

import logging
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vocabularies import bpe_metadata, built, metadata, real_tokenizer
from vocabularies import spm_metadata as spm

from jitllm.llm.errors import ModelFormatError, UnsupportedTokenizer
from jitllm.llm.tokenizer import Tokenizer
from jitllm.llm.tokenizer.pretokenizers import _table, pretokenizer

MANY = settings(max_examples=150, deadline=None)


def test_space_prefix_follows_every_special_token() -> None:
    tokenizer = built(spm())
    ids = tokenizer.vocabulary.ids
    assert tokenizer.encode("a</s>a") == [1, ids["▁a"], 2, ids["▁a"]]
    assert tokenizer.encode("") == [1]
    plain = built(spm(add_space_prefix=False, add_bos_token=False, add_eos_token=True))
    assert plain.encode("a ab") == [ids["a"], ids["▁ab"], 2]
    assert plain.decode([ids["▁a"]]) == " a"
    assert tokenizer.decode([ids["▁a"], ids["▁a"]]) == "a a"
    assert tokenizer.decode([ids["▁a"]], at_start=False) == " a"


def test_parse_special_spares_user_defined_tokens_only() -> None:
    tokenizer = built(spm({"<c>": 3, "<u>": 4}, add_space_prefix=False))
    ids = tokenizer.vocabulary.ids
    encode = tokenizer.encode
    assert encode("a<c><u>", add_special=False) == [ids["a"], ids["<c>"], ids["<u>"]]
    without = encode("<c><u>", add_special=False, parse_special=False)
    assert without[-1] == ids["<u>"] and ids["<c>"] not in without
    assert tokenizer.decode([ids["<c>"], ids["<u>"]], skip_special=True) == "<u>"


def test_the_longest_special_token_wins_over_the_first() -> None:
    tokenizer = built(spm({"ab": 4, "bcc": 4}, add_space_prefix=False))
    ids = tokenizer.vocabulary.ids
    assert tokenizer.encode("abcc", add_special=False) == [ids["a"], ids["bcc"]]


@pytest.mark.parametrize(
    ("keys", "mask", "expected"),
    [
        ({"tokenizer.ggml.pre": "jina-v2-de"}, "<mask>", ["a", " a"]),
        ({"general.architecture": "nomic-bert-moe"}, "<mask>", ["a", " a"]),
        ({"general.name": "modern-bert base"}, "[MASK]", ["a", " a"]),
        ({"general.name": "Phi-3 mini"}, "<|user|>", ["a ", "a"]),
        ({"general.name": "other"}, "<|user|>", ["a ", " a"]),
    ],
)
def test_tokens_that_swallow_spaces(keys: dict[str, str], mask: str, expected: list[str]) -> None:
    tokenizer = built({**spm({mask: 3}, add_space_prefix=False), **keys})
    token = tokenizer.vocabulary.ids[mask]
    ids = tokenizer.encode(f"a {mask} a", add_special=False)
    middle = ids.index(token)
    assert tokenizer.decode(ids[:middle]) == expected[0]
    assert tokenizer.decode(ids[middle + 1 :]) == expected[1]


def test_end_tokens_are_found_by_id_and_by_text() -> None:
    more = {"<|im_end|>": 1, "<|eom_id|>": 3, "<|fim_pad|>": 3, "<|file_sep|>": 3, "<PRE>": 1}
    tokenizer = built(spm(more, eos_token_id=5, eot_token_id=6))
    ids = tokenizer.vocabulary.ids
    special = tokenizer.special
    assert tokenizer.eog_ids == {5, 6, ids["</s>"], *(ids[t] for t in list(more)[:4])}
    assert (special.eos, special.eot, special.eom) == (5, 6, ids["<|eom_id|>"])
    assert (special.fim_pad, special.fim_pre) == (ids["<|fim_pad|>"], ids["<PRE>"])
    assert tokenizer.is_special(ids["<|im_end|>"])
    assert not tokenizer.is_special(ids["a"])


def test_end_of_message_is_not_end_of_turn_in_harmony() -> None:
    texts = dict.fromkeys(["<|end|>", "<|return|>", "<|call|>", "<|channel|>"], 3)
    tokenizer = built(bpe_metadata(texts, eos_token_id=0))
    ids = tokenizer.vocabulary.ids
    assert tokenizer.eog_ids == {0, ids["<|return|>"], ids["<|call|>"]}
    assert not tokenizer.is_special(ids["<|end|>"])
    assert not tokenizer.is_special(ids["<|channel|>"])
    del texts["<|call|>"]
    tokenizer = built(bpe_metadata(texts, eos_token_id=0))
    assert tokenizer.vocabulary.ids["<|end|>"] in tokenizer.eog_ids


def test_gemma4_writes_bytes_and_keeps_runs_of_newlines() -> None:
    tokens = {"<bos>": 3, "</s>": 1, "<|tool_response>": 3, "<0xC3>": 6, "<0xA9>": 6}
    tokens |= dict.fromkeys(["▁", "a", "b", "▁a", "▁ab", "\n", "\n\n\n"], 1)
    data = metadata("gemma4", tokens, ["▁ a", "▁a b"], bos_token_id=0, add_bos_token=False)
    tokenizer = built(data)
    ids = tokenizer.vocabulary.ids
    text = "a ab\n\n\né\n"
    expected = ["<bos>", "a", "▁ab", "\n\n\n", "<0xC3>", "<0xA9>", "\n"]
    assert [tokenizer.vocabulary.tokens[i] for i in tokenizer.encode(text)] == expected
    assert tokenizer.decode(tokenizer.encode(text), skip_special=True) == text
    long = text * 100
    assert tokenizer.encode(long) == [0] + tokenizer.encode(text)[1:] * 100
    assert tokenizer.eog_ids == {ids["<|tool_response>"]}
    assert tokenizer.nl_id == ids["\n"]


def test_merges_rank_by_their_first_place_and_need_not_make_tokens() -> None:
    data = bpe_metadata()
    data["tokenizer.ggml.merges"] = ["a b", "b c", "a b", "x y"]
    tokenizer = built(data)
    ids = tokenizer.vocabulary.ids
    assert tokenizer.encode("abc") == [ids["ab"], ids["c"]]
    assert tokenizer.encode("xy") == [ids["x"], ids["y"]]


def test_ignore_merges_takes_a_whole_word() -> None:
    more = {"xyz": 1}
    ids = built(bpe_metadata(more)).vocabulary.ids
    assert built(bpe_metadata(more)).encode("xyz") == [ids[c] for c in "xyz"]
    tokenizer = built(bpe_metadata(more, pre="llama3", add_bos_token=False))
    assert tokenizer.encode("xyz") == [ids["xyz"]]


def test_kimi_without_merges_ranks_by_token() -> None:
    data = bpe_metadata(pre="kimi-k2")
    del data["tokenizer.ggml.merges"]
    tokenizer = built(data)
    assert tokenizer.encode("ab ab") == [tokenizer.vocabulary.ids[t] for t in ("ab", "Ġab")]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("gpt-2", "I'm 12  x", ["I", "'m", " 12", " ", " x"]),
        ("llama3", "I'M 12345\n\n x", ["I", "'M", " ", "123", "45", "\n\n", " x"]),
        ("qwen2", "a1234", ["a", "1", "2", "3", "4"]),
        ("afmoe", "n 1234567", ["n", " ", "1", "234", "567"]),
        ("kimi-k2", "Hi中文ab'S", ["Hi", "中文", "ab'S"]),
        ("deepseek-llm", "a\u2029 ", ["a", "\u2029 "]),  # no range holds white space
        ("deepseek-coder", "中\u3000 ", ["中", "\u3000 "]),
        ("gemma4", "a b\n\nc", ["a b", "\n\n", "c"]),
    ],
)
def test_pretokenizers_cut_words(name: str, text: str, words: list[str]) -> None:
    assert pretokenizer(name).split(text) == words


def test_every_pretokenizer_keeps_the_text() -> None:
    text = "It's 1234567 o'clock,\r\n\t日本語  ünï \u200d🤦 __x__ <sentinel:1>\n"
    assert len(_table()) == 91
    for name in _table():
        words = pretokenizer(name).split(text)
        assert "".join(words) == text and len(words) > 2, name


def test_a_vocabulary_may_come_as_bytes_and_arrays() -> None:
    data = spm()
    expected = built(data)
    data["tokenizer.ggml.tokens"] = [t.encode() for t in data["tokenizer.ggml.tokens"]] + [b"\xff"]
    data["tokenizer.ggml.token_type"] = np.array([*data["tokenizer.ggml.token_type"], 1], np.int32)
    data["tokenizer.ggml.scores"] = np.array([*data["tokenizer.ggml.scores"], 0], np.float32)
    tokenizer = built(data)
    assert tokenizer.encode("ab é") == expected.encode("ab é")
    assert tokenizer.token_bytes(tokenizer.n_vocab - 1) == b"\xff"


def test_empty_tokens_get_a_name_and_suppressed_ids_are_kept() -> None:
    tokenizer = built(spm({"": 4}, suppress_tokens=np.array([3, -1, 10**6], np.int32)))
    assert tokenizer.vocabulary.tokens[-1] == f"[EMPTY_{tokenizer.n_vocab - 1}]"
    assert tokenizer.encode("a", add_special=False) == [tokenizer.vocabulary.ids["▁a"]]
    assert tokenizer.suppress_ids == (3,)


def test_repr_says_what_it_is() -> None:
    text = "<Tokenizer gpt2/falcon: 65024 tokens, bos 11, eos 11, 1 end a generation>"
    assert repr(real_tokenizer("falcon")) == text


@pytest.mark.parametrize("kind", [None, "no_vocab", "none"])
def test_a_file_may_have_no_tokenizer(kind: str | None) -> None:
    data = {} if kind is None else {"tokenizer.ggml.model": kind}
    assert Tokenizer.from_metadata(data) is None


@pytest.mark.parametrize("kind", ["bert?", "../model_llama", "chat_template", "base", "registry"])
def test_unknown_kinds_name_those_that_are_known(kind: str) -> None:
    with pytest.raises(UnsupportedTokenizer, match=r"one of .*gpt2.*, llama.*got"):
        Tokenizer.from_metadata({"tokenizer.ggml.model": kind})


def test_unknown_pretokenizers_name_those_that_are_known() -> None:
    with pytest.raises(UnsupportedTokenizer, match=r"one of .*qwen2.*got 'qwen99'"):
        built(bpe_metadata(pre="qwen99"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": None}, "tokens: expected an array of strings"),
        ({"tokens": 7}, "tokens: expected an array of strings"),
        ({"tokens": [1, 2]}, "expected strings"),
        ({"token_type": [1]}, "token_type: expected 101 numbers"),
        ({"scores": ["x"]}, "scores: expected"),
        ({"suppress_tokens": ["x"]}, "suppress_tokens: expected"),
        ({"merges": None}, "merges: expected"),
    ],
)
def test_damaged_vocabularies_are_named(change: dict[str, Any], message: str) -> None:
    data = bpe_metadata({"<u>": 2, "<s>": 3, "</s>": 3})
    for key, value in change.items():
        data[f"tokenizer.ggml.{key}"] = value
        if value is None:
            del data[f"tokenizer.ggml.{key}"]
    with pytest.raises(ModelFormatError, match=message):
        built(data)


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**40), 2**40),
    st.floats(),
    st.text(max_size=3),
    st.lists(st.text(max_size=3), max_size=4),
    st.lists(st.floats(width=32), max_size=4).map(lambda v: np.array(v, np.float32)),
    st.lists(st.integers(-9, 9), max_size=4).map(lambda v: np.array(v, np.int32)),
)
KEYS = (
    *("tokens", "token_type", "scores", "merges", "pre", "suppress_tokens", "add_space_prefix"),
    *("bos_token_id", "eos_token_id", "eot_token_id", "unknown_token_id", "add_bos_token"),
)


@MANY
@given(st.sampled_from(["llama", "gpt2", "gemma4"]), st.sampled_from(KEYS), JUNK)
def test_junk_in_a_file_is_an_error_of_ours_or_harmless(kind: str, key: str, value: Any) -> None:
    data = spm() if kind == "llama" else bpe_metadata()
    data = {**data, "tokenizer.ggml.model": kind, f"tokenizer.ggml.{key}": value}
    try:
        tokenizer = built(data)
        tokenizer.decode(tokenizer.encode("a ab</s>é\n"), skip_special=True)
    except (ModelFormatError, UnsupportedTokenizer):
        pass


def test_text_that_no_token_can_write_is_refused() -> None:
    tokenizer = built(metadata("llama", {"a": 1, "b": 1}, unknown_token_id=99))
    with pytest.raises(ModelFormatError, match="expected an unknown token"):
        tokenizer.encode("a b")


def test_bad_ids_and_surrogates_are_refused() -> None:
    tokenizer = built(spm())
    for token in (-1, tokenizer.n_vocab):
        with pytest.raises(ValueError, match="expected an id from 0 to"):
            tokenizer.decode([token])
    with pytest.raises(ValueError, match="lone surrogate at index 1"):
        tokenizer.encode("a\ud800")


def test_what_cannot_be_added_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "jitllm.tokenizer"):
        tokenizer = built(bpe_metadata(pre="glm4", add_bos_token=True, bos_token_id=10**6))
        assert not tokenizer.add_bos
        assert built(spm()).encode("<s>")[:2] == [1, 1]
    assert "names none" in caplog.text and "bos_token_id" in caplog.text and "twice" in caplog.text
