"""Tokenizers against ids recorded from the original tokenizers and from llama.cpp."""

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llm_sources import download_sources
from models import model_path
from tokenizers import Regex, models, pre_tokenizers
from tokenizers import Tokenizer as RustTokenizer
from vocabularies import NAMES, bpe_metadata, built, metadata, real_tokenizer, recorded
from vocabularies import spm_metadata as spm

from jitllm.llm.errors import ModelFormatError, UnsupportedTokenizer
from jitllm.llm.loaders.gguf import GGUFFile
from jitllm.llm.tokenizer import Tokenizer
from jitllm.llm.tokenizer.merging import chars_joined_to, cut_before, merge_symbols
from jitllm.llm.tokenizer.pretokenizers import _table, pretokenizer

MANY = settings(max_examples=150, deadline=None)
WORDS = st.text(st.sampled_from("ab \n\té日🤦\u200d♂️'s1▁<|>.\u0301"), max_size=40)
TEXTS = st.one_of(st.text(max_size=60), WORDS)


@pytest.mark.parametrize("name", NAMES)
def test_ids_of_the_original_tokenizers(name: str) -> None:
    tokenizer = real_tokenizer(name)
    vectors = recorded(name)["vectors"]
    assert len(vectors) == 47
    for text, ids in vectors:
        assert tokenizer.encode(text, add_special=False, parse_special=False) == ids
        assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("name", NAMES)
def test_special_tokens_as_llama_cpp_reads_them(name: str) -> None:
    tokenizer = real_tokenizer(name)
    for text, rows in recorded(name)["special"]:
        for i, ids in enumerate(rows):
            add, parse = divmod(i, 2)
            got = tokenizer.encode(text, add_special=bool(add), parse_special=bool(parse))
            assert got == ids, (text, add, parse)


@pytest.mark.parametrize("name", NAMES)
def test_text_as_llama_cpp_writes_it(name: str) -> None:
    tokenizer = real_tokenizer(name)
    for ids, skipped, full in recorded(name)["detokenized"]:
        for skip, data in ((True, skipped), (False, full)):
            text = tokenizer.decode(ids, skip_special=skip, clean_spaces=True)
            assert text == bytes.fromhex(data).decode("utf-8", "replace")


@pytest.mark.parametrize("name", NAMES)
def test_special_ids_as_llama_cpp_finds_them(name: str) -> None:
    tokenizer = real_tokenizer(name)
    assert sorted(tokenizer.eog_ids) == recorded(name)["eog"]
    ids = dict(recorded(name)["ids"])
    assert tokenizer.add_bos == bool(ids.pop("add_bos"))
    assert tokenizer.add_eos == bool(ids.pop("add_eos"))
    assert (tokenizer.nl_id if tokenizer.nl_id is not None else -1) == ids.pop("nl")
    for key, value in ids.items():
        assert getattr(tokenizer.special, key) == (None if value == -1 else value), key


@MANY
@given(TEXTS)
def test_bpe_text_comes_back(text: str) -> None:
    for name in ("gpt-2", "falcon"):
        part = writable(name, text)
        ids = real_tokenizer(name).encode(part, add_special=False, parse_special=False)
        assert real_tokenizer(name).decode(ids) == part


def writable(name: str, text: str) -> str:
    """The characters that the vocabulary can write; Falcon's has no tokens for some bytes."""
    tokenizer = real_tokenizer(name)
    single = {tokenizer.token_bytes(i) for i in range(300)}
    return "".join(c for c in text if all(bytes([byte]) in single for byte in c.encode()))


@MANY
@given(TEXTS)
def test_spm_text_comes_back_with_marks_as_spaces(text: str) -> None:
    tokenizer = real_tokenizer("phi-3")
    ids = tokenizer.encode(text, add_special=False, parse_special=False)
    assert tokenizer.decode(ids) == text.replace("▁", " ")


@MANY
@given(st.lists(st.integers(0, 32063), max_size=30), st.booleans(), st.booleans())
def test_stream_is_decode_in_pieces(ids: list[int], skip: bool, at_start: bool) -> None:
    for name in NAMES:
        tokenizer = real_tokenizer(name)
        stream = tokenizer.stream(skip_special=skip, at_start=at_start)
        text = "".join(map(stream.put, ids)) + stream.flush()
        assert text == tokenizer.decode(ids, skip_special=skip, at_start=at_start)


@MANY
@given(TEXTS)
def test_stream_never_gives_half_a_character(text: str) -> None:
    text = text.replace("\ufffd", "").replace("▁", "")
    for name in ("phi-3", "gpt-2"):
        tokenizer = real_tokenizer(name)
        stream = tokenizer.stream()
        given = ""
        for token in tokenizer.encode(text, add_special=False, parse_special=False):
            given += stream.put(token)
            assert text.startswith(given)
        assert given == text and not stream.flush()


def test_stream_joins_byte_tokens_of_an_emoji() -> None:
    tokenizer = built(spm())
    stream = tokenizer.stream()
    emoji = "🤦\u200d♂️"
    ids = tokenizer.encode(emoji, add_special=False)
    pieces = [stream.put(token) for token in ids]
    assert len(ids) == 1 + len(emoji.encode())
    assert [piece for piece in pieces if piece] == list(emoji)
    stream.put(ids[1])
    assert stream.flush() == "\ufffd"


@MANY
@given(TEXTS)
def test_bpe_agrees_with_the_tokenizers_library(text: str) -> None:
    for name in ("gpt-2", "falcon"):
        part = writable(name, text)
        ids = real_tokenizer(name).encoder.encode(part, True) if part else []
        assert ids == rust_bpe(name).encode(part, add_special_tokens=False).ids


@MANY
@given(TEXTS)
def test_spm_agrees_with_the_tokenizers_library(text: str) -> None:
    ids = real_tokenizer("phi-3").encoder.encode(text, False) if text else []
    assert ids == rust_spm().encode(text.replace(" ", "▁"), add_special_tokens=False).ids


@MANY
@given(st.lists(st.sampled_from([" ", "  ", "a", "Hello", "\n", "é", "日本", " ▁", ".", "the "])))
def test_long_texts_are_cut_where_no_token_reaches(parts: list[str]) -> None:
    encoder: Any = real_tokenizer("phi-3").encoder
    text = "".join(parts) + " the end of a long text" * 20
    assert encoder.encode(text, False) == encoder._encode_word(text.replace(" ", "▁"))


def test_marks_inside_a_token_hold_a_text_together() -> None:
    joined = chars_joined_to("▁", ["▁a", "b▁c", "x"])
    assert joined == {"\n", "▁", "b"}
    assert cut_before("▁", "a▁▁b▁c\n▁d▁", joined) == ["a", "▁▁b▁c\n▁d", "▁"]
    assert cut_before("▁", "▁", joined) == ["▁"]


def test_the_leftmost_of_equal_pairs_joins_first() -> None:
    assert merge_symbols(list("aaaaa"), _pairs) == ["aa", "aa", "a"]
    assert merge_symbols([], _pairs) == []


def _pairs(left: str, right: str) -> float | None:
    return 1.0 if left == right == "a" else None


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


def test_a_gguf_file_has_a_tokenizer() -> None:
    with GGUFFile(model_path("stories260K")) as file:
        tokenizer = Tokenizer.from_metadata(file.metadata)
    assert tokenizer is not None
    ids = tokenizer.encode("Once upon a time")
    assert ids[0] == tokenizer.bos_id and tokenizer.decode(ids[1:]) == "Once upon a time"


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
    with pytest.raises(UnsupportedTokenizer, match=r"one of .*gpt2, llama.*got"):
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
    with pytest.raises(ModelFormatError, match="<0xE2>"):
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


def test_building_imports_nothing_heavy() -> None:
    code = (
        "import sys; from jitllm.llm.tokenizer import Tokenizer;"
        "from jitllm.llm.loaders.gguf import GGUFFile;"
        f"t = Tokenizer.from_metadata(GGUFFile({str(model_path('stories260K'))!r}).metadata);"
        "t.decode(t.encode('Hi'));"
        "print({'jinja2', 'numba', 'tokenizers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.slow
def test_all_vocabularies_of_llama_cpp(tmp_path: Path) -> None:
    tested = 0
    for path in sorted(download_sources(tmp_path).glob("models/ggml-vocab-*.gguf")):
        with GGUFFile(path) as file:
            try:
                tokenizer = Tokenizer.from_metadata(file.metadata)
            except UnsupportedTokenizer:
                continue
        inputs, outputs = path.with_suffix(".gguf.inp"), path.with_suffix(".gguf.out")
        if tokenizer is None or not inputs.exists():
            continue
        texts = inputs.read_bytes().decode().split("\n__ggml_vocab_test__\n")
        rows = [list(map(int, line.split())) for line in outputs.read_text().split("\n")]
        tested += len(texts)
        for text, ids in zip(texts, rows, strict=False):  # gemma-4 has an empty row at its end
            got = tokenizer.encode(text, add_special=False, parse_special=False)
            assert got == ids, (path.name, text)
    assert tested >= 660


_rust: dict[str, RustTokenizer] = {}


def rust_bpe(name: str) -> RustTokenizer:
    """The same vocabulary in the tokenizers library."""
    if name not in _rust:
        data = recorded(name)["metadata"]
        vocab = {text: i for i, text in enumerate(data["tokenizer.ggml.tokens"])}
        merges = [tuple(m.split(" ", 1)) for m in data["tokenizer.ggml.merges"]]
        _rust[name] = tokenizer = RustTokenizer(models.BPE(vocab, merges))
        regexes = pretokenizer(data["tokenizer.ggml.pre"]).regexes
        splits = [pre_tokenizers.Split(Regex(regex), "isolated") for regex in regexes]
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, byte_level])
    return _rust[name]


def rust_spm() -> RustTokenizer:
    """The vocabulary of Phi-3 in the tokenizers library, with merges derived from its tokens."""
    if "phi-3" not in _rust:
        data = recorded("phi-3")["metadata"]
        tokens, scores = data["tokenizer.ggml.tokens"], data["tokenizer.ggml.scores"]
        vocab = {text: i for i, text in enumerate(tokens)}
        merges = []
        for i, text in enumerate(tokens):
            cuts = [(text[:k], text[k:]) for k in range(1, len(text))]
            merges += [(-scores[i], i, cut) for cut in cuts if cut[0] in vocab and cut[1] in vocab]
        merges.sort(key=lambda merge: merge[:2])
        model = models.BPE(vocab, [cut for *_, cut in merges], byte_fallback=True)
        _rust["phi-3"] = RustTokenizer(model)
    return _rust["phi-3"]


def test_the_byte_table_is_a_bijection() -> None:
    tokenizer = real_tokenizer("gpt-2")
    singles = [b for b in map(tokenizer.token_bytes, range(256)) if len(b) == 1]
    assert sorted(singles) == [bytes([byte]) for byte in range(256)]
