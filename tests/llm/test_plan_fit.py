"""The largest configuration that a budget allows: never more, and never less than could be."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import model_path
from tiny import write_gguf

import jitllm
from jitllm.llm.cli import main
from jitllm.llm.errors import BackendError
from jitllm.llm.plan import plan
from jitllm.llm.plan_auto import largest
from jitllm.llm.plan_fit import fit

STORIES = str(model_path("stories260K"))
PAGE = 64

# Layers, heads, heads of keys, columns of a head, feed-forward columns, words, an output of its own
Shape = tuple[int, int, int, int, int, int, bool]
SHAPES = st.tuples(
    st.integers(1, 6), st.sampled_from([2, 4]), st.sampled_from([1, 2]), st.sampled_from([8, 16]),
    st.integers(1, 4).map(lambda n: 32 * n), st.integers(8, 40), st.booleans(),
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fit")


def model_file(folder: Path, shape: Shape) -> tuple[Path, list[int], int, int]:
    """Write a model; returns bytes of each layer, of the output there, and of a page of a layer."""
    n_layers, heads, kv_heads, d, ff, n_vocab, own_output = shape
    n, kv = heads * d, kv_heads * d
    path = folder / ("-".join(map(str, shape)) + ".gguf")
    layer = {
        "attn_norm": (n,), "ffn_norm": (n,), "attn_q": (n, n), "attn_k": (kv, n),
        "attn_v": (kv, n), "attn_output": (n, n), "ffn_gate": (ff, n), "ffn_up": (ff, n),
        "ffn_down": (n, ff),
    }  # fmt: skip
    shapes = {"token_embd.weight": (n_vocab, n), "output_norm.weight": (n,)}
    shapes |= {"output.weight": (n_vocab, n)} if own_output else {}
    for i in range(n_layers):
        shapes |= {f"blk.{i}.{name}.weight": size for name, size in layer.items()}
    metadata = {
        "llama.block_count": n_layers, "llama.context_length": 1000, "llama.embedding_length": n,
        "llama.feed_forward_length": ff, "llama.attention.head_count": heads,
        "llama.attention.head_count_kv": kv_heads, "llama.rope.dimension_count": d,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
    }  # fmt: skip
    if not path.exists():
        tensors = {name: np.zeros(size, np.float32) for name, size in shapes.items()}
        write_gguf(path, metadata, tensors)
    layer_bytes = 4 * sum(int(np.prod(size)) for size in layer.values())
    return path, [layer_bytes] * n_layers, 4 * (n_vocab * n + n), PAGE * 2 * 2 * kv


@given(SHAPES, st.integers(1, 1000), st.floats(0, 1.2))
@settings(max_examples=25, deadline=None)
def test_layers_that_fit(folder: Path, shape: Shape, n_ctx: int, part: float) -> None:
    path, layers, output, page = model_file(folder, shape)
    n_columns = shape[1] * shape[3]
    n, cache = len(layers), page * -(-n_ctx // PAGE)
    # by hand: the output first, then layers from the last on, each with its cells
    costs = [0, output, *(output + (i + 1) * (layers[i] + cache) for i in range(n))]
    common: dict[str, Any] = {"device": "reference", "n_ctx": n_ctx}

    def there(n_gpu_layers: int) -> int:
        return plan(path, n_gpu_layers=n_gpu_layers, **common).share("reference").total

    edges = {0: 0, 1: 1, n - 1: n - 1, n: n, n + 1: n + 1, n + 2: n + 1, 999: n + 1, -1: n + 1}
    assert {k: there(k) for k in edges} == {k: costs[count] for k, count in edges.items()}
    for budget in (round(part * costs[-1]), *costs, *(cost - 1 for cost in costs[1:])):
        limit = {"reference": budget}
        found = fit(path, limit, n_gpu_layers="auto", **common)
        (planned,) = found.plans
        placed, total = planned.n_placed, planned.share("reference").total
        assert placed == max(k for k, cost in enumerate(costs) if cost <= budget)
        with_input = costs[-1] + (output - 4 * n_columns if shape[6] else 0)
        assert found.fits(limit) and total == (
            with_input if with_input <= budget else costs[placed]
        )


@given(SHAPES, st.floats(0, 1.2), st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_context_that_fits(folder: Path, shape: Shape, part: float, n_sequences: int) -> None:
    path, layers, output, page = model_file(folder, shape)
    common: dict[str, Any] = {"device": "reference", "n_sequences": n_sequences}

    def needs(n_ctx: int) -> int:
        return plan(path, n_ctx=n_ctx, **common).total

    own_output, embedding = shape[6], 4 * shape[5] * shape[1] * shape[3]
    weights = sum(layers) + output + (embedding if own_output else 0)
    step = n_sequences * len(layers) * page
    assert [needs(n) for n in (1, 64, 65, 1000)] == [weights + k * step for k in (1, 1, 2, 16)]
    for budget in (weights + step + round(part * 15 * step), needs(1), needs(640), needs(1000)):
        found = fit(path, budget, **common)
        assert found.total <= budget and found.fits(budget)
        assert found.n_ctx == min(1000, (budget - weights) // step * PAGE)
        assert found.n_ctx == 1000 or needs(found.n_ctx + 1) > budget
    with pytest.raises(BackendError, match="a context of one token"):
        fit(path, needs(1) - 1, **common)


def test_longer_contexts_need_more_on_the_cpu() -> None:
    lengths = [*range(1, 70, 9), 127, 128, 129, 300, 447, 448, 449, 511, 512, 513, 900, 5000]
    totals = [fit(STORIES, "1G", max_ctx=n, n_threads=2).total for n in lengths]
    assert all(a <= b for a, b in pairwise(totals))


@pytest.mark.parametrize("budget", [2_089_500, 2_500_000, 3_557_863])
def test_what_fits_is_what_loading_takes(budget: int) -> None:
    found = fit(STORIES, budget, n_threads=2)
    (planned,) = found.plans
    (share,) = planned.shares
    loading: dict[str, Any] = {"n_ctx": planned.n_ctx, "cache_bytes": planned.cache_bytes}
    with jitllm.load(STORIES, n_threads=2, progress=False, **loading) as model:
        model.forward([i % 100 for i in range(planned.n_ctx)], rows=[-1])
        memory = model.memory()
    used = {name: memory[name] for name in ("weights", "caches", "buffers")}
    assert used == {"weights": share.weights, "caches": share.caches, "buffers": share.compute}
    assert sum(used.values()) == found.total <= budget
    above = plan(STORIES, n_ctx=planned.n_ctx + 1, n_threads=2, cache_bytes=planned.cache_bytes)
    assert planned.n_ctx == 512 or above.total > budget or not above.holds_sequences


@given(SHAPES, st.floats(0, 1), st.sampled_from(["f16", "f32", "bf16"]))
@settings(max_examples=8, deadline=None)
def test_no_model_takes_more_than_it_was_given(
    folder: Path, shape: Shape, part: float, kv_dtype: str
) -> None:
    path, *_ = model_file(folder, shape)
    common: dict[str, Any] = {"n_threads": 2, "kv_dtype": kv_dtype}
    least, most = (fit(path, "1G", max_ctx=n, **common).total for n in (1, 1000))
    budget = least + round(part * (most - least))
    found = fit(path, budget, **common)
    (planned,) = found.plans
    loading: dict[str, Any] = {"n_ctx": planned.n_ctx, "cache_bytes": planned.cache_bytes}
    with jitllm.load(path, progress=False, **loading, **common) as model:
        sequence = model.sequence([0] * planned.n_ctx)
        memory = model.memory()
        assert len(sequence.token_ids) == planned.n_ctx
    assert memory["caches_used"] == memory["caches"]
    assert sum(memory.values()) - memory["caches_used"] == found.total <= budget


def test_devices_share_by_their_budgets() -> None:
    devices = ["reference:0", "reference:1"]
    common: dict[str, Any] = {"device": devices, "n_ctx": 64, "n_gpu_layers": "auto"}
    limit = {"reference:0": "3 MiB", "reference:1": "1 MiB", "cpu": "1G"}
    (planned,) = fit(STORIES, limit, **common).plans
    assert planned.placement.layers == ("reference:0",) * 5  # of six places .75 is before the last
    assert planned.placement.output == "reference:1"
    (even,) = fit(STORIES, limit, split=(1, 1), **common).plans
    assert even.placement.layers == ("reference:0",) * 3 + ("reference:1",) * 2


def test_models_together() -> None:
    draft = {"ref": STORIES, "n_ctx": 64, "kv_dtype": "f32"}
    common: dict[str, Any] = {"device": "reference"}
    alone = fit(STORIES, 1_200_000, **common)
    small = plan(STORIES, n_ctx=64, kv_dtype="f32", **common)
    both = fit([STORIES, draft], 1_200_000 + small.total, **common)
    assert [p.n_ctx for p in both.plans] == [alone.n_ctx, 64]
    assert both.total == alone.total + small.total
    same = fit([STORIES, STORIES], 2_400_000, **common)
    assert [p.n_ctx for p in same.plans] == [alone.n_ctx] * 2


def test_layers_of_models_together() -> None:
    common: dict[str, Any] = {"device": "reference", "n_ctx": 64, "n_gpu_layers": "auto"}
    costs = [
        plan(STORIES, device="reference", n_ctx=64, n_gpu_layers=k).share("reference").total
        for k in range(7)
    ]
    for first, second in ((6, 6), (6, 2), (6, 0), (3, 0), (0, 0)):
        limit = {"reference": costs[first] + costs[second]}
        found = fit([STORIES, STORIES], limit, **common)
        placed = [p.n_layers_on_device + p.output_on_device for p in found.plans]
        assert placed[0] == max(k for k, cost in enumerate(costs) if cost <= limit["reference"])
        rest = limit["reference"] - costs[placed[0]]
        assert placed[1] == max(k for k, cost in enumerate(costs) if cost <= rest)


@given(st.integers(1, 300), st.integers(-5, 400))
def test_the_search_is_exact(most: int, limit: int) -> None:
    assert largest(1, most, lambda n: n <= limit) == max(0, min(most, limit))


def test_refusals() -> None:
    with pytest.raises(ValueError, match="at least one model"):
        fit([], 1)
    with pytest.raises(ValueError, match='"ref" among'):
        fit([{"n_ctx": 3}], 1)
    with pytest.raises(ValueError, match="n_ctx=0 where it is looked for"):
        fit(STORIES, "1G", n_ctx=64)
    with pytest.raises(ValueError, match="expected bytes"):
        fit(STORIES, "lots")
    with pytest.raises(BackendError, match="no layer on the devices"):
        fit(STORIES, {"cpu": 1000}, device="reference", n_gpu_layers="auto")


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    args = ["plan", STORIES, "--device", "reference", "--budget", "1200000", "-md", STORIES]
    with pytest.raises(BackendError):
        fit([STORIES, STORIES], 1_200_000, device="reference")
    assert main(args) == 1
    assert main([*args, "--budget", "reference=2400000"]) == 2
    capsys.readouterr()
    args[5] = "2400000"
    assert main([*args, "--json"]) == 0
    found = fit([STORIES, STORIES], 2_400_000, device="reference")
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(found.as_dict()))
    assert main(args) == 0
    out = capsys.readouterr().out
    assert out == f"{found}\n" and f"{found.total:,} bytes in all" in out
    for each in found.plans:
        assert str(each) in out and each._repr_html_() in found._repr_html_()
