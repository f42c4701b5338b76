"""The comparison of states runs, also for models with recurrent layers and without a tokenizer."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from variants.recurrent import recurrent_model

import jitllm

SCRIPT = Path(__file__).parent.parent.parent / "bench" / "state_contestant.py"


@pytest.mark.parametrize("name", ["mamba2-heads", "falcon-h1-heads"])
def test_recurrent_models(name: str, tmp_path: Path) -> None:
    path = recurrent_model(name, tmp_path / "model.gguf")
    numbers = map(str, (1, 80, 3, 1))  # threads, tokens, steps, rounds
    run = subprocess.run(
        [sys.executable, SCRIPT, "jitllm", path, *numbers], capture_output=True, text=True
    )
    assert not run.returncode, run.stderr
    cases = json.loads(run.stdout)
    with jitllm.load(path, n_ctx=64, n_threads=1, progress=False) as model:
        size = 4 * sum(model.engine.graph.states)
    assert cases["state"]["bytes"] == size
    assert cases["state and 3 earlier ones"]["bytes"] == 4 * size
    for case in ("keep the state", "go back to it", "compute the last token again"):
        assert cases[case]["seconds"][0] > 0
