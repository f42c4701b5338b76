"""The table of a kernel's accesses is made of a model that runs in the simulator."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from models import model_path

from jitllm.kernels.gpu import host as gpu_host

SCRIPT = Path(__file__).parent.parent.parent / "bench" / "gpu_access.py"


@pytest.fixture(autouse=True)
def _can_simulate() -> None:
    try:
        gpu_host.require()
    except ValueError as error:
        pytest.skip(str(error))


def _run(*options: str) -> str:
    run = subprocess.run(
        [sys.executable, SCRIPT, model_path("stories260K"), "--prompt", "5", *options],
        env=os.environ | {"PYTHONSAFEPATH": ""},
        capture_output=True,
        text=True,
    )
    assert not run.returncode, run.stderr
    return run.stdout


def test_rows_that_are_selected() -> None:
    """The 64 numbers of a row are read and written once, by neighbours."""
    text = _run("--kernels", "select_rows")
    assert re.findall(r"^\S.*", text, re.M) == ["select_rows, decode", "select_rows, prompt"]
    stores = re.findall(r"select_rows\.py:\d+ +store 4 +(\d+) +4\.0 +100% +1\.0$", text, re.M)
    assert stores == ["2", "2"]


def test_a_model_without_races() -> None:
    assert _run("--races") == ""
