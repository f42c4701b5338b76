"""The measurement of a GPU runs, here in the simulator."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from models import model_path

from jitllm.kernels.gpu import host as gpu_host

SCRIPT = Path(__file__).parent.parent.parent / "bench" / "gpu.py"


def test_a_model_is_measured() -> None:
    try:
        gpu_host.require()
    except ValueError as error:
        pytest.skip(str(error))
    numbers = "--prompt 20 --decode 4 --rounds 1 --copy-bytes 100000".split()
    run = subprocess.run(
        [sys.executable, SCRIPT, model_path("stories260K"), *numbers],
        env=os.environ | {"JITLLM_CUDA": "simulator", "PYTHONSAFEPATH": ""},
        capture_output=True,
        text=True,
    )
    assert not run.returncode, run.stderr
    found = [float(x) for x in re.findall(r"(\d+(?:\.\d+)?) (?:t/s|GB/s)", run.stdout)]
    assert len(found) == 4
    assert min(found[:3]) > 0
