"""Tokenizers against ids recorded from the original tokenizers and from llama.cpp."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llm_sources import download_sources
from models import model_path
from tokenizers import Regex, models, pre_tokenizers
from tokenizers import Tokenizer as RustTokenizer
from vocabularies import NAMES, built, real_tokenizer, recorded
from vocabularies import spm_metadata as spm

from jitllm.llm.loaders.gguf import GGUFFile
from jitllm.llm.tokenizer import Tokenizer
from jitllm.llm.tokenizer.merging import chars_joined_to, cut_before, merge_symbols
from jitllm.llm.tokenizer.pretokenizers import pretokenizer

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


def test_a_gguf_file_has_a_tokenizer() -> None:
    with GGUFFile(model_path("stories260K")) as file:
        tokenizer = Tokenizer.from_metadata(file.metadata)
    assert tokenizer is not None
    ids = tokenizer.encode("Once upon a time")
    assert ids[0] == tokenizer.bos_id and tokenizer.decode(ids[1:]) == "Once upon a time"


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
    tested: dict[str, int] = {}
    for path in sorted(download_sources(tmp_path).glob("models/ggml-vocab-*.gguf")):
        with GGUFFile(path) as file:
            tokenizer = Tokenizer.from_metadata(file.metadata)
        assert tokenizer is not None
        inputs, outputs = path.with_suffix(".gguf.inp"), path.with_suffix(".gguf.out")
        if not inputs.exists():
            continue
        texts = inputs.read_bytes().decode().split("\n__ggml_vocab_test__\n")
        rows = [list(map(int, line.split())) for line in outputs.read_text().split("\n")]
        tested[path.name] = len(texts)
        for text, ids in zip(texts, rows, strict=False):  # gemma-4 has an empty row at its end
            got = tokenizer.encode(text, add_special=False, parse_special=False)
            assert got == ids, (path.name, text)
    assert len(tested) == 15
    assert sum(tested.values()) == 708


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
