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


@pytest.mark.parametrize("device", devices())
def test_texts_side_by_side_are_not_cut(tmp_path: Path, device: str) -> None:
    path = tmp_path / "llada.gguf"
    conformance_model("llada-dense", path)
    texts = [list(range(1, 1 + n)) for n in (20, 30, 25)]
    with jitllm.load(path, device=device, n_ctx=60, progress=False) as model:
        assert model.engine.max_tokens == 60  # less than all texts together
        alone = [model.generate(t, max_tokens=1, temperature=0).token_ids for t in texts]
        together = model.generate(texts, max_tokens=1, temperature=0)
        assert [result.token_ids for result in together] == alone
