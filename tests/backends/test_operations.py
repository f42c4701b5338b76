"""Files of operations: found by name, and their own errors reach the caller."""

import importlib
import sys
from pathlib import Path

import pytest

from jitllm import backends
from jitllm.backends.ir import Graph, Node, Value


@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_what_an_operation_lacks_is_not_taken_for_its_absence(
    device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = importlib.import_module(f"jitllm.backends.{device}_ops")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    (tmp_path / "halfdone.py").write_text("import no_such_module_anywhere\n")
    backend = backends.open_backend(device, n_threads=1)
    value = Value(0, "x", "O", 4)
    graph = Graph((Node("halfdone", "x", (), (value,)),), (), 4)
    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
        backend.compile(graph, [], max_tokens=1, taps=frozenset())
    assert f"jitllm.backends.{device}_ops.halfdone" not in sys.modules
    backend.close()
