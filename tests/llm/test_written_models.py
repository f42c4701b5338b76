"""Logits of architectures that the conformance set lacks: bitnet, apertus."""

from pathlib import Path
from typing import Any

import pytest
from driver import devices
from logits import MAX_NMSE, WRONG_NMSE, change, logits_error
from variants.written import written_golden, written_model


def error(folder: Path, name: str, device: str = "reference", **options: Any) -> float:
    """NMSE of the last 16 logits."""
    golden, path = written_golden(name), written_model(name, folder / f"{name}.gguf")
    return logits_error(path, (golden["tokens"], golden["logits"]), device, **options)


@pytest.mark.parametrize("device", devices())
@pytest.mark.parametrize("name", ["bitnet", "apertus"])
def test_logits_are_those_of_llama_cpp(tmp_path: Path, name: str, device: str) -> None:
    assert error(tmp_path, name, device) <= MAX_NMSE


@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("apertus", change("xielu", beta=0.5)),
        ("apertus", change("xielu", eps=-1e-6)),
        ("apertus", change("rope", kind="norm")),
        ("bitnet", change("rope", kind="norm")),
        ("bitnet", change("rms_norm", eps=1e-3)),
        ("bitnet", change("scale", factor=1.0)),
    ],
)
def test_a_wrong_detail_is_seen(tmp_path: Path, name: str, edit: Any) -> None:
    assert error(tmp_path, name, edit=edit) > WRONG_NMSE
