"""The table of operations, on every backend that is here: near the NumPy twins."""

import pytest
from driver import nmse, opens, simulate_cuda
from op_cases import CASES, TYPE_CASES, Case, Floats, outputs

from jitllm import backends

MAX_NMSE = 1e-6
DEVICES = [name for name in backends.names() if name != "reference"]
# Few experts have tiles of many rows, many have tiles of few.
EXPERT_CASES = {
    f"{name} of {kind}": Case(CASES[name].build, dict.fromkeys(tensors, kind))
    for name, tensors in (("experts", ("gate", "up", "down")),
                          ("experts, shared by groups", ("gate4", "up4", "down4")))
    for kind in ("Q8_0", "F16")
}  # fmt: skip
ALL_CASES = CASES | TYPE_CASES | EXPERT_CASES
# Of CUDA the kernels' own tests have all types; they take long to compile.
SOME_TYPES = ("Q4_K", "Q8_0", "IQ4_XS")
FAST = ("attention", "matmul of", "experts")
SOME_FAST = ("attention", "matmul of Q4_K", "experts, shared by groups of Q8_0")
MAX_NMSE_FAST = 1e-3
_expected: dict[str, Floats] = {}


@pytest.fixture(autouse=True)
def cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    simulate_cuda(monkeypatch)


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


@pytest.mark.parametrize("name, device", [
    pytest.param(name, device, marks=() if device != "cuda" or name.endswith(SOME_TYPES)
                 else pytest.mark.slow)
    for name in TYPE_CASES for device in DEVICES if device != "cpu"
])  # fmt: skip
def test_tensor_type(name: str, device: str) -> None:
    _compare(name, device)  # those of the CPU: tests/kernels


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=() if name in SOME_FAST else pytest.mark.slow)
    for name in ALL_CASES if name.startswith(FAST)
])  # fmt: skip
def test_fast_operation_of_cuda(name: str) -> None:
    got = outputs(ALL_CASES[name], "cuda", precision="fast")
    assert nmse(got, expected(name)) <= MAX_NMSE_FAST


def test_the_table_sees_what_is_wrong() -> None:
    wrong = {
        "attention": "attention, window",
        "experts": "experts, factor",
        "rope of pairs": "rope of halves",
        "glu silu": "glu gelu",
    }
    for name, other in wrong.items():
        assert nmse(expected(other), expected(name)) > 100 * MAX_NMSE
