"""The table of operations, on every backend that is here: near the NumPy twins."""

import pytest
from driver import nmse, opens
from op_cases import CASES, TYPE_CASES, Floats, outputs

from jitllm import backends

MAX_NMSE = 1e-6
DEVICES = [name for name in backends.names() if name != "reference"]
ALL_CASES = CASES | TYPE_CASES
_expected: dict[str, Floats] = {}


def expected(name: str) -> Floats:
    """What the reference backend gives for a case, computed once."""
    if name not in _expected:
        _expected[name] = outputs(ALL_CASES[name], "reference")
    return _expected[name]


def _compare(name: str, device: str) -> None:
    if not opens(device):
        pytest.skip(f"no device for {device} here")
    assert nmse(outputs(ALL_CASES[name], device), expected(name)) <= MAX_NMSE


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", CASES)
def test_operation(name: str, device: str) -> None:
    _compare(name, device)


@pytest.mark.parametrize("device", [name for name in DEVICES if name != "cpu"])
@pytest.mark.parametrize("name", TYPE_CASES)
def test_tensor_type(name: str, device: str) -> None:
    _compare(name, device)  # those of the CPU: tests/kernels


def test_the_table_sees_what_is_wrong() -> None:
    wrong = {
        "attention": "attention, window",
        "experts": "experts, factor",
        "rope of pairs": "rope of halves",
        "glu silu": "glu gelu",
    }
    for name, other in wrong.items():
        assert nmse(expected(other), expected(name)) > 100 * MAX_NMSE
