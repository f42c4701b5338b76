"""Which kernels CUDA's products take on which GPU, and that plans need not know it."""

from typing import Any

import numpy as np
import pytest

from jitllm.backends import cuda
from jitllm.backends._cuda.chip import CHIPS, Chip, chip_of
from jitllm.backends._cuda.lower import CudaLowering
from jitllm.backends._cuda.products import is_integer
from jitllm.backends._gpu.dispatch import Form
from jitllm.backends.rules import PoolSizes, TensorShape
from jitllm.kernels import formats
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.words.experts import Routing, experts

CODES = [name for name in formats.names() if formats.get(name).planes]
H100, A100 = chip_of((9, 0), "NVIDIA H100", 132), chip_of((8, 0), "NVIDIA A100", 108)
GEFORCE = chip_of((8, 9), "NVIDIA GeForce RTX 4060", 24)
WORKSTATION = chip_of((8, 6), "NVIDIA RTX A6000", 84)
N, K, V, E = 4096, 2048, 48, 8
CODES_HALVED = ("to_half", (0,))
TYPES = {
    "embedding": ("F16", (V, K)), "narrow": ("Q4_K", (N, K)), "wide": ("Q6_K", (8 * N, K)),
    "router": ("F32", (E, K)), "gate": ("Q4_K", (E, N, K)), "up": ("Q4_K", (E, N, K)),
    "down": ("Q6_K", (E, K, N)), "output": ("F16", (V, K)),
}  # fmt: skip
TENSORS = {name: TensorShape(name, *of) for name, of in TYPES.items()}


def test_chips_are_those_of_their_capability() -> None:
    assert chip_of((8, 7), "Orin", 16) == Chip(512, 1024, 128, 16)
    assert chip_of((10, 0), "NVIDIA B200", 148).float16 == CHIPS[9, 0].float16
    assert chip_of((12, 1), "NVIDIA GB10", 48).float16 == 512
    assert GEFORCE == Chip(256, 1024, 128, 24)


@pytest.mark.parametrize("name", CODES)
def test_int8_is_for_gpus_that_are_slow_in_float16(name: str) -> None:
    has_one_scale = formats.get(name).group == 32
    assert not is_integer(name, H100) and not is_integer(name, A100)
    assert is_integer(name, GEFORCE)
    assert is_integer(name, WORKSTATION) == has_one_scale
    assert is_integer(name, chip_of((7, 5), "Tesla T4", 40)) == has_one_scale


def _graph() -> Any:
    g = GraphBuilder(TENSORS, lambda name: np.empty(TYPES[name][1], np.float32), 64)
    x = g.embed("embedding", width=K, name="x")
    for name in ("narrow", "wide"):
        g.matmul(x, name, name=f"{name} product")
    y = experts(
        g, x, g.matmul(x, "router", name="logits"), Routing(2), name="y", gate="gate", up="up",
        down="down",
    )  # fmt: skip
    g.matmul(g.select_outputs(y, name="rows"), "output", name="output")
    return g.build()


def _lowered(monkeypatch: pytest.MonkeyPatch, chip: Chip) -> tuple[int, list[list[Form]]]:
    """Return the bytes that a plan counts for a chip, and the forms of dispatches."""
    made = list[CudaLowering]()

    class Kept(CudaLowering):
        def lower(self) -> None:
            super().lower()
            made.append(self)

    monkeypatch.setattr(cuda, "PLANNED", chip)
    monkeypatch.setattr(cuda, "CudaLowering", Kept)
    rules = cuda.CudaRules("fast")
    n_bytes = rules.buffer_bytes(_graph(), TENSORS, PoolSizes((), "f16", 0), 512)
    return n_bytes, [list(dispatch.forms) for dispatch in made[0].dispatches]


@pytest.mark.parametrize("chip", [A100, GEFORCE, WORKSTATION])
def test_bytes_are_those_of_any_chip(monkeypatch: pytest.MonkeyPatch, chip: Chip) -> None:
    assert _lowered(monkeypatch, chip)[0] == _lowered(monkeypatch, H100)[0]


def _tiles(monkeypatch: pytest.MonkeyPatch, chip: Chip) -> dict[str, Form]:
    """Return the forms for 64 rows of the two dense products."""
    _, dispatches = _lowered(monkeypatch, chip)
    largest = [forms[-1] for forms in dispatches if forms[-1].kernel.startswith("matmul")]
    return dict(zip(("narrow", "wide"), largest[:2], strict=True))


def test_tiles_fill_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the narrow matrix a tile is 32 workgroups, of the wide one 256."""
    for chip, narrow, wide in ((H100, 193, 33), (WORKSTATION, 65, 33), (GEFORCE, 33, 33)):
        tiles = _tiles(monkeypatch, chip)
        assert (tiles["narrow"].least, tiles["wide"].least) == (narrow, wide)


def test_float_weights_have_larger_tiles_on_fast_tensor_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for chip, rows in ((H100, 128), (A100, 128), (GEFORCE, 64), (WORKSTATION, 64)):
        _, dispatches = _lowered(monkeypatch, chip)
        tiles = [forms[-1] for forms in dispatches if forms[-1].kernel == "matmul_half.f16"]
        assert [(form.tile, form.constants[:2]) for form in tiles] == [(rows, (rows, 1))]


def test_float16_is_rounded_to_only_where_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for chip, narrow, wide in (
        (H100, "matmul_half.q4_k", "matmul_half.q6_k"),
        (WORKSTATION, "matmul.q4_k", "matmul_half.q6_k"),
        (GEFORCE, "matmul.q4_k", "matmul.q6_k"),
    ):
        tiles = _tiles(monkeypatch, chip)
        assert (tiles["narrow"].kernel, tiles["wide"].kernel) == (narrow, wide)
        _, dispatches = _lowered(monkeypatch, chip)
        made = [form for (form, *_) in dispatches if (form.kernel, form.constants) == CODES_HALVED]
        assert made and all((form.least <= 512) == (chip is not GEFORCE) for form in made)


def test_few_rows_are_split_for_as_many_multiprocessors(monkeypatch: pytest.MonkeyPatch) -> None:
    for chip, split in ((H100, 8), (GEFORCE, 4), (chip_of((9, 0), "small", 4), 1)):
        _, dispatches = _lowered(monkeypatch, chip)
        vectors = next(forms[0] for forms in dispatches if forms[0].kernel == "matvec.q4_k")
        assert vectors.constants[:2] == (1, split)
