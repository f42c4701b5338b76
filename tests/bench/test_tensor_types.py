"""The table of tensor types: its errors, its products, its file."""

import importlib
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from jitllm.backends._cpu.threads import ThreadPool

BENCH = Path(__file__).parent.parent.parent / "bench"
NAMES = ("machine", "results", "tensor_types")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script as a module; it imports others by their short names."""
    monkeypatch.syspath_prepend(str(BENCH))
    yield importlib.import_module("tensor_types")
    for name in NAMES:
        sys.modules.pop(name, None)


def test_a_row(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = script.measure("Q8_0", None, None, 0)
    assert row.bits == 8.5 and 0.005 < row.rms < row.rms_known < 0.02
    assert math.isnan(row.llama_rms) and math.isnan(row.prompt)
    monkeypatch.setattr(script, "FOLDER", tmp_path / "new")
    script.append([row])
    path = script.append([row])
    head, *lines = path.read_text().splitlines()
    assert head.startswith("date,machine,commit,type_name,bits,rms,") and len(lines) == 2


@pytest.mark.parametrize("name", ["F32", "Q4_0"])
def test_products(script: ModuleType, name: str) -> None:
    pool = ThreadPool(1)
    try:
        products = script.Products(name, pool, 1 << 20)
        assert products.seconds(1, 64) > 0 and products.seconds(3, 64) > 0
    finally:
        pool.close()
