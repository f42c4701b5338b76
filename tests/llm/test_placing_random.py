"""Models of any size in any places: logits, bytes, and budgets that are just enough or not."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driver import nmse, opens
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny import write_gguf

import jitllm
from jitllm import backends
from jitllm.backends.base import DeviceMemory
from jitllm.llm.errors import BackendError
from jitllm.llm.plan import Plan, plan
from jitllm.llm.plan_fit import fit

MAX_NMSE, N_CTX = 1e-6, 200
TOKENS = [1, 5, 3, 2, 7, 7, 0, 4, 6]
# Layers, heads, heads of keys, columns of a head, feed-forward columns, words, own output, experts
Shape = tuple[int, int, int, int, int, int, bool, int]
SHAPES = st.tuples(
    st.integers(1, 5), st.sampled_from([2, 4]), st.sampled_from([1, 2]), st.sampled_from([8, 16]),
    st.integers(1, 3).map(lambda n: 32 * n), st.integers(8, 40), st.booleans(),
    st.sampled_from([0, 0, 3]),
)  # fmt: skip
KINDS = ["reference:0", "reference:1", "reference:2", *(["vulkan"] if opens("vulkan") else [])]
NAMES = st.sampled_from([
    "attn_q", "attn_norm", "attn_output", "ffn_", r"ffn_(up|gate)", "ffn_down", "output",
    "token_embd", r"blk\.[02]\.", r"blk\.1\.attn", "norm", "exps",
])  # fmt: skip


@st.composite
def places(draw: st.DrawFn, kinds: list[str] = KINDS) -> dict[str, Any]:
    """Arguments of placing."""
    devices = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=3, unique=True))
    homes = st.sampled_from(["cpu", *devices])
    return {
        "device": devices,
        "n_gpu_layers": draw(st.integers(-1, 8)),
        "split": draw(st.none() | st.lists(st.integers(0, 3), max_size=len(devices))),
        "overrides": draw(st.lists(st.tuples(NAMES, homes), max_size=3)),
        "cpu_moe": draw(st.booleans()),
        "n_cpu_ffn": draw(st.integers(0, 2)),
        "offload_kv": draw(st.booleans()),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("random")


def model_file(folder: Path, shape: Shape) -> Path:
    """Write a model of random weights, once."""
    n_layers, heads, kv_heads, d, ff, n_vocab, own_output, experts = shape
    n, kv = heads * d, kv_heads * d
    path = folder / ("-".join(map(str, shape)) + ".gguf")
    if path.exists():
        return path
    many, end = ((experts,), "_exps") if experts else ((), "")
    layer = {
        "attn_norm": (n,), "ffn_norm": (n,), "attn_q": (n, n), "attn_k": (kv, n),
        "attn_v": (kv, n), "attn_output": (n, n), f"ffn_gate{end}": (*many, ff, n),
        f"ffn_up{end}": (*many, ff, n), f"ffn_down{end}": (*many, n, ff),
    }  # fmt: skip
    layer |= {"ffn_gate_inp": (experts, n)} if experts else {}
    shapes = {"token_embd.weight": (n_vocab, n), "output_norm.weight": (n,)}
    shapes |= {"output.weight": (n_vocab, n)} if own_output else {}
    for i in range(n_layers):
        shapes |= {f"blk.{i}.{name}.weight": size for name, size in layer.items()}
    metadata = {
        "llama.block_count": n_layers, "llama.context_length": N_CTX, "llama.embedding_length": n,
        "llama.feed_forward_length": ff, "llama.attention.head_count": heads,
        "llama.attention.head_count_kv": kv_heads, "llama.rope.dimension_count": d,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
    }  # fmt: skip
    if experts:
        metadata |= {"llama.expert_count": experts, "llama.expert_used_count": 2}
    normal = np.random.default_rng(0).standard_normal
    return write_gguf(path, metadata, {k: normal(s, np.float32) * 0.3 for k, s in shapes.items()})


def _held(model: jitllm.Model) -> dict[str, tuple[int, int, int]]:
    return {
        name: (sizes["weights"], sizes["caches"], sizes["buffers"])
        for name, sizes in model.memory_by_device().items()
    }


def _above(planned: Plan) -> Iterator[dict[str, Any]]:
    """All ways to place one layer more, or the experts of one more."""
    given, most = planned.arguments(), planned.n_placed + 1
    if most <= planned.n_layers + 1:
        for counts in product(range(most + 1), repeat=len(planned.placing.devices)):
            if sum(counts) == most:
                yield {**given, "n_gpu_layers": most, "split": counts}
    elif given["n_cpu_moe"]:
        yield {**given, "n_cpu_moe": given["n_cpu_moe"] - 1}


@given(SHAPES, places(), st.integers(9, N_CTX), st.sampled_from(["f32", "f16", "bf16"]))
@settings(max_examples=15, deadline=None)
def test_any_place_gives_the_logits_of_one_device(
    folder: Path, shape: Shape, where: dict[str, Any], n_ctx: int, kv_dtype: str
) -> None:
    path = model_file(folder, shape)
    common: dict[str, Any] = {
        "n_ctx": n_ctx, "n_threads": 1, "precision": "exact", "cache_bytes": 1_000_000,
        "kv_dtype": kv_dtype, "progress": False,
    }  # fmt: skip
    with jitllm.load(path, **common) as model:
        expected = model.forward(TOKENS)
    shares = plan(path, **common, **where).shares
    with jitllm.load(path, **common, **where) as model:
        assert _held(model) == {s.device: (s.weights, s.pool, s.compute) for s in shares}
        assert nmse(model.forward(TOKENS), expected) <= (MAX_NMSE if kv_dtype == "f32" else 1e-4)


@given(SHAPES, places(["reference:0", "reference:1"]), st.floats(0, 1), st.integers(1, N_CTX))
@settings(max_examples=15, deadline=None)
def test_what_fits_stays_within_its_budget(
    folder: Path, shape: Shape, where: dict[str, Any], part: float, n_ctx: int
) -> None:
    path = model_file(folder, shape)
    where = {**where, "n_gpu_layers": "auto", "split": None}
    common: dict[str, Any] = {"n_ctx": n_ctx, "n_threads": 1, "progress": False}
    whole = fit(path, "1G", **common, **where)
    devices = where["device"]
    limit = {name: round(part * whole.plans[0].share(name).total) for name in devices}
    try:
        (planned,) = fit(path, limit, **common, **where).plans
    except BackendError as error:  # an override puts there what is too much without any layer
        assert "no layer on the devices" in str(error) and where["overrides"]
        return
    with jitllm.load(path, n_threads=1, progress=False, **planned.arguments()) as model:
        model.forward([i % 8 for i in range(n_ctx)], rows=[-1])
        held = {name: sum(sizes) for name, sizes in _held(model).items()}
    assert held == {share.device: share.total for share in planned.shares}
    assert all(held.get(name, 0) <= limit[name] for name in devices)
    for above in _above(planned):
        assert not plan(path, n_threads=1, progress=False, **above).fits(limit)


@given(SHAPES, places(), st.floats(0, 1.1), st.integers(9, N_CTX))
@settings(max_examples=15, deadline=None)
def test_auto_fills_what_is_free(
    folder: Path, shape: Shape, where: dict[str, Any], part: float, n_ctx: int
) -> None:
    path = model_file(folder, shape)
    common: dict[str, Any] = {
        "n_ctx": n_ctx, "cache_bytes": 1_000_000, "n_threads": 1, "progress": False, "margin": 0
    }  # fmt: skip
    where = {**where, "split": None}
    whole = plan(path, **common, **{**where, "n_gpu_layers": -1})
    free = {name: round(part * whole.share(name).total) for name in where["device"]}

    def fits(planned: Plan) -> bool:
        return all(planned.share(name).total <= n for name, n in free.items())

    auto = {**common, **where, "n_gpu_layers": "auto"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backends, "device_memory", lambda name: DeviceMemory(1 << 40, free[name]))
        try:
            planned = plan(path, **auto)
        except BackendError as error:
            assert "what has to be on" in str(error) and where["overrides"]
            return
        with jitllm.load(path, **auto) as model:
            assert model.placing == planned.placing
            assert np.isfinite(model.forward(TOKENS)).all()
            held = _held(model)
    assert held == {s.device: (s.weights, s.pool, s.compute) for s in planned.shares}
    assert fits(planned)
    assert not any(fits(plan(path, n_threads=1, **above)) for above in _above(planned))


@given(SHAPES, places(["reference:0", "reference:1"]), st.integers(1, N_CTX))
@example(
    (2, 2, 1, 8, 64, 8, False, 0),
    {"device": ["reference:0"], "n_gpu_layers": 0, "split": None, "offload_kv": False,
     "overrides": [("attn_norm", "reference:0")], "cpu_moe": False, "n_cpu_ffn": 0},
    28,  # needs less than 27 tokens do
)  # fmt: skip
@settings(max_examples=10, deadline=None)
def test_a_byte_less_is_too_little(
    folder: Path, shape: Shape, where: dict[str, Any], n_ctx: int
) -> None:
    path = model_file(folder, shape)
    common = {"n_threads": 1, "progress": False, **where}
    (planned,) = fit(path, "1G", max_ctx=n_ctx, **common).plans
    assert planned.n_ctx == n_ctx
    exact = {share.device: share.total for share in planned.shares}
    given_split = {"split": where["split"] or [1] * len(where["device"])}  # not by the budget
    (again,) = fit(path, exact, max_ctx=n_ctx, **{**common, **given_split}).plans
    assert again.n_ctx == n_ctx and again.fits(exact)
    for device, total in exact.items():
        if not total:
            continue
        less = {**exact, device: total - 1}
        try:
            (shorter,) = fit(path, less, max_ctx=n_ctx, **{**common, **given_split}).plans
        except BackendError as error:
            assert "a context of one token" in str(error)
        else:
            assert shorter.n_ctx < n_ctx and shorter.share(device).total < total
