"""Converted files: every key, every value and every tensor are as llama.cpp's converter has them."""

from pathlib import Path
from typing import Any

import pytest
from convert_reference import FAMILIES, TYPES, describe, make_folder, recorded

from jitllm.llm.convert.api import convert


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_converted_as_by_the_reference(family: str, kind: str, tmp_path: Path) -> None:
    folder = make_folder(family, tmp_path)
    metadata, tensors = recorded(family, kind)
    pre = metadata["tokenizer.ggml.pre"][1]
    made = convert(folder, tmp_path / "made.gguf", kind, pre=pre, progress=False)
    made_metadata, made_tensors = describe(made.path)
    assert _differences(made_metadata, metadata) == {}
    assert _differences(made_tensors, tensors) == {}


def _differences(made: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    """What differs: what was made, and what was to be made."""
    keys = made.keys() | expected.keys()
    return {k: (made.get(k), expected.get(k)) for k in keys if made.get(k) != expected.get(k)}
