"""Metadata values are written as the reader, and the reference package, read them."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import from_dtype

from jitllm.llm.loaders.gguf import GGUFFile
from jitllm.llm.loaders.gguf_writer import NewTensor, array, scalar, write_gguf

_NUMBERS = (
    *("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"),
    *("float32", "float64", "bool"),
)
_TEXT = st.text(st.characters(codec="utf-8"), max_size=20)


def _items(kind: str) -> st.SearchStrategy[Any]:
    if kind == "string":
        return _TEXT
    return from_dtype(np.dtype(kind), allow_nan=False).map(lambda value: value.item())


_VALUES = st.sampled_from([*_NUMBERS, "string"]).flatmap(
    lambda kind: st.tuples(st.just(kind), st.lists(_items(kind), min_size=1, max_size=9))
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(values=_VALUES)
def test_values_come_back(tmp_path: Path, values: tuple[str, list[Any]]) -> None:
    kind, items = values
    path = tmp_path / "values.gguf"
    pairs = {"a.one": scalar(kind, items[0]), "a.many": array(kind, items)}
    write_gguf(path, pairs, [NewTensor("t", (2,), "F32")], [iter([bytes(8)])])
    with GGUFFile(path) as file:
        assert file.metadata["a.one"] == items[0]
        many: Any = file.metadata["a.many"]
        assert list(many) == items
    fields = gguf.GGUFReader(path).fields
    assert fields["a.one"].contents() == items[0]
    assert fields["a.many"].contents() == items


def test_numbers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(OverflowError):
        scalar("uint8", 256)
    with pytest.raises(KeyError):
        scalar("uint128", 1)
