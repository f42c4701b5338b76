"""Models that see a text as a whole (diffusion): given at once or refused, never silently wrong."""

from pathlib import Path

import numpy as np
import pytest
from driver import devices
from tiny import conformance_model

import jitllm
from jitllm.llm.errors import BackendError


@pytest.mark.parametrize("device", devices())
def test_whole_or_not_at_all(tmp_path: Path, device: str) -> None:
    path = tmp_path / "llada.gguf"
    conformance_model("llada-dense", path)
    with jitllm.load(path, device=device, progress=False) as model:
        tokens = list(range(1, 21))
        logits = model.forward(tokens)
        assert not np.array_equal(logits[:10], model.forward(tokens[:10]))  # it looks ahead
        with pytest.raises(BackendError, match="as a whole"):
            model.sequence(tokens[:10]).append(tokens[10:])
        with pytest.raises(BackendError, match="as a whole"):
            model.generate(tokens, max_tokens=4, temperature=0)
