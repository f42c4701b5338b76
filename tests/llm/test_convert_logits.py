"""Converted models compute what transformers computes from the folder they were made of."""

from pathlib import Path

import numpy as np
import pytest
from conversions.record_logits import PATH, TOKENS
from conversions.reference import FOLDERS, make_folder

import jitllm
from jitllm.llm.convert.api import convert

RECORDED = np.load(PATH)


@pytest.mark.parametrize("family", RECORDED.files)
def test_logits(family: str, tmp_path: Path) -> None:
    folder, path = make_folder(family, tmp_path), tmp_path / "made.gguf"
    convert(folder, path, "f32", pre=FOLDERS[family].pre, progress=False)
    with jitllm.load(path, n_ctx=128, device="reference", kv_dtype="f32", progress=False) as model:
        logits = model.forward(list(TOKENS))[-2:]
    expected = RECORDED[family]
    assert ((logits - expected) ** 2).sum() < 1e-9 * (expected**2).sum()
