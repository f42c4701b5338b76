"""Models with weights that no kernel reads."""

from pathlib import Path
from typing import Any

import numpy as np
from models import model_path
from quantized import quantized_copy

import jitllm


def test_f64_is_f32(tmp_path: Path) -> None:
    def logits(path: Path) -> Any:
        with jitllm.load(path, device="reference", n_ctx=32, progress=False) as model:
            return np.asarray(model.forward([1, 80, 120, 300]))

    source = model_path("stories260K")
    copy = quantized_copy(source, tmp_path / "f64.gguf", "F64")
    assert copy.stat().st_size > 1.9 * source.stat().st_size
    assert np.array_equal(logits(copy), logits(source))
