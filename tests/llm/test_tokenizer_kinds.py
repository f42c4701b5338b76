"""Kinds of tokenizers besides BPE and SentencePiece, against ids recorded from llama.cpp."""

import logging
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vocabularies import KINDS, built, kind_tokenizer, metadata, recorded, recorded_kind

from jitllm.llm.errors import ModelFormatError, UnsupportedTokenizer
from jitllm.llm.tokenizer import Tokenizer
from jitllm.llm.tokenizer.charsmap import Charsmap
from jitllm.llm.tokenizer.cutting import Cutter
from jitllm.llm.tokenizer.matching import PieceLengths
from jitllm.llm.tokenizer.model_rwkv import unescape

MANY = settings(max_examples=150, deadline=None)
WORDS = st.text(st.sampled_from("ab \n\té日本🤦\u200d♂️'s1▁<|>.\u0301\ufeff\0"), max_size=40)
TEXTS = st.one_of(st.text(max_size=60), WORDS)
RAW_UTF8 = ("ws", "ws_lower")  # llama.cpp takes their characters for bytes when it writes text


def content(name: str) -> dict[str, Any]:
    """What was recorded for one of `KINDS`, or for "bert-bge"."""
    return recorded(name) if name == "bert-bge" else recorded_kind(name)


@pytest.mark.parametrize("name", [*KINDS, "bert-bge"])
def test_ids_as_llama_cpp_gives_them(name: str) -> None:
    tokenizer = kind_tokenizer(name)
    rows = content(name)["special"]
    assert len(rows) == 64
    for text, expected in rows:
        for i, ids in enumerate(expected):
            add, parse = divmod(i, 2)
            got = tokenizer.encode(text, add_special=bool(add), parse_special=bool(parse))
            assert got == ids, (text, add, parse)


@pytest.mark.parametrize("name", [*(k for k in KINDS if k not in RAW_UTF8), "bert-bge"])
def test_text_as_llama_cpp_writes_it(name: str) -> None:
    tokenizer = kind_tokenizer(name)
    for ids, skipped, full in content(name)["detokenized"]:
        for skip, data in ((True, skipped), (False, full)):
            text = tokenizer.decode(ids, skip_special=skip, clean_spaces=True)
            assert text == bytes.fromhex(data).decode("utf-8", "replace")


@pytest.mark.parametrize("name", [*KINDS, "bert-bge"])
def test_special_ids_as_llama_cpp_finds_them(name: str) -> None:
    tokenizer = kind_tokenizer(name)
    assert sorted(tokenizer.eog_ids) == content(name)["eog"]
    ids = dict(content(name)["ids"])
    assert (-1 if tokenizer.nl_id is None else tokenizer.nl_id) == ids["nl"]
    for key in ids.keys() - {"nl", "add_bos", "add_eos"}:
        assert getattr(tokenizer.special, key) == (None if ids[key] == -1 else ids[key]), key


def test_ids_of_the_original_bert_tokenizer() -> None:
    vectors = recorded("bert-bge")["vectors"]
    assert len(vectors) == 47
    for text, ids in vectors:
        got = kind_tokenizer("bert-bge").encode(text, add_special=False, parse_special=False)
        assert got == ids, text


def test_flags_of_a_file_do_not_change_what_a_kind_always_does() -> None:
    assert kind_tokenizer("bert_accents").add_bos and kind_tokenizer("bert_accents").add_sep
    assert not kind_tokenizer("rwkv_bos").add_bos
    assert not kind_tokenizer("plamo2_few").add_eos


@MANY
@given(TEXTS)
def test_text_of_rwkv_and_dna_comes_back(text: str) -> None:
    for name in ("rwkv", "dna_none"):
        tokenizer = kind_tokenizer(name)
        assert tokenizer.decode(tokenizer.encode(text, add_special=False)) == text


@MANY
@given(TEXTS)
def test_text_of_plamo2_comes_back_without_the_byte_order_mark(text: str) -> None:
    for name in ("plamo2", "plamo2_few"):
        tokenizer = kind_tokenizer(name)
        ids = tokenizer.encode(text, parse_special=False)
        assert tokenizer.decode(ids) == text.removeprefix("\ufeff")


@MANY
@given(st.text("ab▁ ", max_size=30))
def test_known_text_of_t5_comes_back_with_marks_as_spaces(text: str) -> None:
    tokenizer = kind_tokenizer("t5_bos")
    ids = tokenizer.encode(text, add_special=False, parse_special=False)
    spaced = text.replace("▁", " ")
    assert tokenizer.decode(ids) == (spaced if text.strip(" ") else spaced[1:])
    ids = tokenizer.encode(text, add_special=False, parse_special=False, at_start=False)
    assert tokenizer.decode(ids, at_start=False) == spaced


@MANY
@given(TEXTS)
def test_rwkv_takes_the_longest_token(text: str) -> None:
    tokenizer = kind_tokenizer("rwkv")
    rest = text.encode()
    pieces = {tokenizer.token_bytes(i) for i in range(tokenizer.n_vocab)}
    for token in tokenizer.encode(text, parse_special=False):
        piece = tokenizer.token_bytes(token)
        assert piece == max((p for p in pieces if rest.startswith(p)), key=len)
        rest = rest[len(piece) :]
    assert not rest


@MANY
@given(st.lists(st.sampled_from(["ab", "ba ", " a", "日本日", "\n", "the quick ", "zq", "é"])))
def test_cut_texts_are_covered_as_whole_ones(parts: list[str]) -> None:
    text = "".join(parts) + " a longer end of the text" * 5
    for name in ("plamo2", "plamo2_few", "plamo2_words"):
        encoder: Any = kind_tokenizer(name).encoder
        assert encoder.encode(text, True) == encoder._best_cover(text)
    for name in ("t5_ab", "t5_plain", "t5_map"):
        encoder = kind_tokenizer(name).encoder
        normal = encoder._normalized(text.encode().decode("latin-1"), True)
        assert len(normal) < encoder._exact_length
        whole = encoder._joined_unknown(encoder._best_cover(normal))
        assert encoder.encode(text, True) == whole


def test_sums_of_scores_that_may_round_are_made_over_the_whole_text() -> None:
    data = recorded_kind("t5_plain")["metadata"]
    scores = np.array(data["tokenizer.ggml.scores"], np.float32)
    scores[10:400:7] = -np.float32(1e-12)
    encoder: Any = built({**data, "tokenizer.ggml.scores": scores}).encoder
    assert encoder._exact_length < 100
    text = "the file holds a name of the file " * 20
    normal = encoder._normalized(text, True)
    assert encoder.encode(text, True) == encoder._joined_unknown(encoder._best_cover(normal))
    scores[20] = np.nan
    assert built({**data, "tokenizer.ggml.scores": scores}).encode("the file")


def test_text_that_goes_on_gets_no_space_in_t5() -> None:
    tokenizer = kind_tokenizer("t5_map")

    def marks(text: str) -> bytes:
        return tokenizer.decode_bytes(
            tokenizer.encode(text, add_special=False, at_start=False), at_start=False
        )

    assert (marks("the file"), marks("  the file")) == (b"the file", b" the file")


def test_cutter_cuts_between_characters_of_no_token() -> None:
    text = "abcab " * 20
    assert Cutter(["ab", "bc", "x"]).cut(text) == ["abc", "ab", " "] * 20
    assert Cutter([]).cut("") == []
    assert Cutter(["ab"]).cut("ba") == ["ba"]  # too short to be worth it


def test_lengths_of_pieces_are_those_that_can_match() -> None:
    lengths = PieceLengths(["a", "abc", "abcde", "abcdef", "abxx", "b"])
    assert lengths["abcd"] == (6, 5, 3, 1)
    assert lengths["abx"] == (1,)
    assert lengths["zzzz"] == ()
    assert lengths.longest == 6


@pytest.mark.parametrize(
    ("text", "data"),
    [
        (r"\x41\xfF", b"A\x8f\xff"[:1] + bytes([(15 * 16 + ord("F") - 48) & 255])),
        (r"a\n\t\r\\\'", b"a\n\t\r\\'"),
        (r"\x4", b""),
        ("\\", b""),
        ("é", "é".encode()),
        (r"\é", "é".encode()),
    ],
)
def test_escapes_of_rwkv(text: str, data: bytes) -> None:
    assert unescape(text) == data


def test_dna_is_read_by_sixes() -> None:
    tokenizer = kind_tokenizer("dna")
    ids = tokenizer.vocabulary.ids
    kmer = next(t for t in ids if t.endswith("\ue000") and len(t) == 7)
    got = tokenizer.encode(f"<dna>{kmer[:-1].lower()}AA?</dna>", add_special=False)
    assert got == [ids["<dna>"], ids[kmer], ids["<oov>"], ids["</dna>"]]
    assert tokenizer.decode(got[1:2]) == kmer[:-1]


def charsmap(*units: int, tail: bytes = b"x\0") -> bytes:
    """A precompiled map with these units of its double array."""
    data = np.array(units, "<u4").tobytes()
    return len(data).to_bytes(4, "little") + data + tail


def test_a_map_of_one_key() -> None:
    # the root's children are at offset 0; "a" is at 97, its value at 97 ^ 1
    units = [0] * 256
    units[97] = 97 | 1 << 8 | 1 << 10
    units[96] = 1 << 31
    made = Charsmap(charsmap(*units), frozenset({"b", "ba"}))
    assert made.apply("abacba\xc3\xa9\xc3a\0") == "xbacba\xc3\xa9\xef\xbf\xbdx\0"
    assert made.splits_at_spaces
    assert not Charsmap(charsmap(*units), frozenset({" a"})).splits_at_spaces


@pytest.mark.parametrize(
    "data",
    [b"\1", b"\4\0\0\0", charsmap(1 << 20), charsmap(*[0] * 97, 97 | 1 << 8, tail=b"x")],
)
def test_damaged_maps_are_named(data: bytes) -> None:
    with pytest.raises(ModelFormatError, match="precompiled_charsmap"):
        Charsmap(data, frozenset()).apply("a")


def test_what_a_kind_needs_is_named() -> None:
    with pytest.raises(ModelFormatError, match="expected a token <0x00> of type byte"):
        built(metadata("plamo2", {"a": 1}))
    with pytest.raises(ModelFormatError, match="expected an array of bytes"):
        built(metadata("t5", {"a": 1}, precompiled_charsmap=np.zeros(9, np.int32)))
    for kind in ("rwkv", "bert", "t5"):
        with pytest.raises(ModelFormatError, match="expected an unknown token"):
            built(metadata(kind, {"a": 1, "▁a": 1})).encode("b", add_special=False)


def test_a_missing_separator_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    data = metadata("bert", {"[UNK]": 2, "▁a": 1}, unknown_token_id=0, bos_token_id=9)
    with caplog.at_level(logging.WARNING, "jitllm.tokenizer"):
        tokenizer = built(data)
    assert tokenizer.encode("a") == [1]
    assert "separator token but names none" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert-bge", "rwkv", "plamo2_words", "t5_map", "dna", "ws"])
def test_a_megabyte_takes_less_than_a_second(name: str) -> None:
    tokens = recorded("bert-bge")["metadata"]["tokenizer.ggml.tokens"][2000:]
    words = [token.removeprefix("▁") for token in tokens if token.isascii() or token[0] == "▁"]
    # as in a language: half of all words are among the first hundred
    ranks = np.random.default_rng(0).zipf(1.25, 400_000) % len(words)
    text = " ".join(words[rank] for rank in ranks.tolist())[: 1 << 20]
    assert len(text) == 1 << 20
    tokenizer = kind_tokenizer(name)
    tokenizer.encode("the beginning builds tables")
    start = time.process_time()
    tokenizer.encode(text)
    assert time.process_time() - start < 1


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**40), 2**40),
    st.text(max_size=3),
    st.lists(st.text(max_size=3), max_size=4),
    st.binary(max_size=40).map(lambda data: np.frombuffer(data, np.uint8)),
    st.lists(st.floats(width=32), max_size=300).map(lambda v: np.array(v * 9, np.float32)),
    st.lists(st.integers(-9, 9), max_size=300).map(lambda v: np.array(v * 9, np.int32)),
)
KEYS = (
    *("tokens", "token_type", "scores", "merges", "pre", "precompiled_charsmap"),
    *("unknown_token_id", "seperator_token_id", "add_space_prefix", "normalizer.lowercase"),
)


@MANY
@given(st.sampled_from(KINDS), st.sampled_from(KEYS), JUNK)
def test_junk_in_a_file_is_an_error_of_ours_or_harmless(name: str, key: str, value: Any) -> None:
    data = {**recorded_kind(name)["metadata"], f"tokenizer.ggml.{key}": value}
    try:
        tokenizer = Tokenizer.from_metadata(data)
        assert tokenizer is not None
        tokenizer.decode(tokenizer.encode("a ab</s>é\n the<dna>AC"), skip_special=True)
    except (ModelFormatError, UnsupportedTokenizer):
        pass
