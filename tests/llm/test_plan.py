"""Plans against what is allocated then: equal to the byte."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from models import model_path
from tiny import conformance_model
from variants.encoders import encoder_model
from variants.written import written_model

import jitllm
from jitllm import backends
from jitllm.backends.base import BackendUnavailable
from jitllm.llm.cli import main
from jitllm.llm.errors import BackendError
from jitllm.llm.loaders.gguf import GGUFFile
from jitllm.llm.plan import n_bytes, plan
from jitllm.llm.plan_fit import fit
from jitllm.llm.state.pages import PagePool, pages_of
from jitllm.llm.state.slots import SlotPool

STORIES = str(model_path("stories260K"))

# Every kind of memory: all positions, windows, states, both, latent and sparse caches, experts,
# an encoder alone and one with a decoder.
CASES: list[tuple[str, dict[str, Any]]] = [
    ("stories260K", {}),
    ("stories260K", {"n_ctx": 77, "kv_dtype": "f32", "precision": "exact", "n_threads": 1}),
    ("stories260K", {"n_ctx": 1, "n_threads": 3}),
    ("stories260K", {"n_ctx": 300, "cache_bytes": 900_000}),
    ("gemma3-dense", {"n_ctx": 700}),
    ("mamba-dense", {"n_ctx": 128}),
    ("jamba-dense", {"n_ctx": 65, "kv_dtype": "f32", "cache_bytes": 1_000_000}),
    ("deepseek32-moe", {"n_ctx": 128}),
    ("qwen3moe-moe", {"n_ctx": 100}),
    ("t5", {"n_ctx": 128}),
    ("bert", {}),
]
REAL: list[dict[str, Any]] = [
    {},
    {"n_ctx": 2048, "kv_dtype": "q8_0"},
    {"n_ctx": 1000, "kv_dtype": "f32", "precision": "exact", "n_threads": 1},
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Path of a model, written once."""
    folder = tmp_path_factory.mktemp("plan")
    makers = {"t5": written_model, "bert": encoder_model}

    def path(name: str) -> Path:
        if name == "stories260K":
            return model_path(name)
        target = folder / f"{name}.gguf"
        return target if target.exists() else makers.get(name, conformance_model)(name, target)

    return path


@pytest.mark.parametrize("device", ["cpu", "reference"])
@pytest.mark.parametrize(("name", "settings"), CASES)
def test_loading_allocates_what_was_planned(
    files: Callable[[str], Path], name: str, settings: dict[str, Any], device: str
) -> None:
    planned = plan(files(name), device=device, **settings)
    (share,) = planned.shares
    with jitllm.load(files(name), device=device, progress=False, **settings) as model:
        memory = model.memory()
        assert planned.n_ctx == model.n_ctx
    assert share.device == device and planned.output_on_device
    assert planned.n_layers_on_device == planned.n_layers == model.config.num_hidden_layers
    assert memory == {
        "weights": share.weights, "caches": share.pool, "buffers": share.compute, "caches_used": 0
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("settings", REAL)
def test_a_real_model_allocates_what_was_planned(settings: dict[str, Any]) -> None:
    path = model_path("smollm2")
    (share,) = plan(path, **settings).shares
    with jitllm.load(path, progress=False, **settings) as model:
        memory = model.memory()
    held = {"weights": share.weights, "caches": share.pool, "buffers": share.compute}
    assert memory == {**held, "caches_used": 0}


@pytest.mark.parametrize(
    ("name", "has_states"),
    [("stories260K", False), ("gemma3-dense", False), ("mamba-dense", True), ("jamba-dense", True)],
)
def test_a_full_sequence_uses_what_was_planned(
    files: Callable[[str], Path], name: str, has_states: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_ctx, most = 1000, dict[int, int]()
    common: dict[str, Any] = {"device": "reference", "progress": False}
    (planned,) = fit(files(name), "8G", max_ctx=n_ctx, **common).plans
    assert planned.cache_bytes
    times = 3 if has_states else 1  # where slots are few, sequences keep fewer states
    loading: dict[str, Any] = {"n_ctx": n_ctx, "cache_bytes": times * planned.cache_bytes}
    with jitllm.load(files(name), **loading, **common) as model:
        assert model.memory()["caches"] == times * planned.shares[0].caches
        monkeypatch.setattr(PagePool, "take", _counting(PagePool.take, most))
        monkeypatch.setattr(SlotPool, "take", _counting(SlotPool.take, most))
        sequence, engine = model.sequence(), model.engine
        # the run from the second cell of a page behind all windows holds most
        for n in (1, 63, 40, 40, 40, 137, 512, 167):
            sequence.append([i % 100 for i in range(n)])
            assert len(sequence.logits) == model.n_vocab
        assert len(sequence.token_ids) == n_ctx
        there = {id(pool): pool.pool.n_pages for pool in engine.pools}
        there |= {id(slots): slots.pool.n_slots for slots in (engine.slots,) if slots}
        assert most == {pool: n // times for pool, n in there.items()}


def _counting(take: Callable[[Any], int], most: dict[int, int]) -> Callable[[Any], int]:
    """Return `take` of a pool that notes the most of it that was ever held."""

    def counted(pool: Any) -> int:
        taken = take(pool)
        total = pool.pool.n_pages if isinstance(pool, PagePool) else pool.pool.n_slots
        most[id(pool)] = max(most.get(id(pool), 0), total - pool.n_free)
        return taken

    return counted


def test_a_plan_reads_no_weights(
    files: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: dict[str, int] = {}
    data = GGUFFile.data

    def noted(file: GGUFFile, name: str) -> Any:
        read[name] = file.tensors[name].nbytes
        return data(file, name)

    monkeypatch.setattr(GGUFFile, "data", noted)
    for name in ("stories260K", "gemma3-dense", "deepseek32-moe"):
        plan(files(name))
        plan(files(name), device="reference", n_gpu_layers=2)
    assert max(read.values(), default=0) <= 256, read  # constants of the graph


def test_layers_move_with_their_bytes(files: Callable[[str], Path]) -> None:
    whole = plan(STORIES, device="reference")
    with GGUFFile(STORIES) as file:
        sizes = {name: info.nbytes for name, info in file.tensors.items()}
    n, cache = whole.n_layers, whole.shares[0].caches
    for n_gpu_layers in (0, 1, n - 1, n, n + 1, n + 2, -1):
        planned = plan(STORIES, device="reference", n_gpu_layers=n_gpu_layers)
        n_placed = n + 1 if n_gpu_layers < 0 else min(n + 1, n_gpu_layers)
        first = n + 1 - n_placed
        there = {f"blk.{i}." for i in range(first, n)}
        expected = sum(b for name, b in sizes.items() if name[:6] in there)
        if n_placed:  # the embedding is the output too, so it is on both
            expected += sizes["output_norm.weight"] + sizes["token_embd.weight"]
        share = planned.share("reference")
        assert (share.weights, share.caches) == (
            expected,
            cache // n * (n - first if first < n else 0),
        )
        assert planned.n_layers_on_device + planned.output_on_device == n_placed
        assert planned.share("cpu").caches + share.caches == cache


def test_several_devices_overrides_and_caches_that_stay() -> None:
    devices = ["reference:0", "reference:1"]
    both = plan(STORIES, device=devices, n_gpu_layers="all")
    assert both.placement.layers == ("reference:0",) * 3 + ("reference:1",) * 2
    assert [share.device for share in both.shares] == [*devices, "cpu"]
    assert plan(STORIES, device=devices) == both
    stay = plan(STORIES, device="reference", offload_kv=False)
    assert stay.share("reference").caches == 0
    assert stay.share("cpu").caches == sum(share.caches for share in both.shares)
    moved = plan(STORIES, device="reference", n_gpu_layers="all", overrides={r"ffn_": "cpu"})
    with GGUFFile(STORIES) as file:
        ffn = sum(i.nbytes for name, i in file.tensors.items() if ".ffn_" in name)
    assert stay.share("reference").weights - moved.share("reference").weights == ffn


def test_gpus_take_memory_at_once_and_reserve_less(files: Callable[[str], Path]) -> None:
    for n_ctx, n_pages in ((64, 128 + 1 + 4), (32768, 512 + 8 + 4)):
        (share,) = plan(STORIES, device="vulkan", n_ctx=n_ctx).shares
        (here,) = plan(STORIES, n_ctx=n_ctx).shares
        assert share.pool == n_pages * share.caches // pages_of(n_ctx)
        assert share.total == share.weights + share.pool + share.compute
        assert share.caches == here.caches and share.pool < here.pool
        assert here.total == here.weights + here.caches + here.compute
        for shared in plan(STORIES, device="vulkan", n_ctx=n_ctx, n_gpu_layers=3).shares:
            assert shared.pool // shared.caches == share.pool // share.caches
    for name in ("gemma3-dense", "jamba-dense"):  # windows, states
        (share,) = plan(files(name), device="vulkan", n_ctx=20_000).shares
        assert share.caches < share.pool <= 2.1 * share.caches


def test_budgets(caplog: pytest.LogCaptureFixture) -> None:
    planned = plan(STORIES, device="reference", n_gpu_layers=2)
    there, here = planned.share("reference").total, planned.share("cpu").total
    assert planned.fits(planned.total) and not planned.fits(planned.total - 1)
    assert planned.fits({"reference": there, "cpu": here}) and planned.fits({"reference": there})
    assert not planned.fits({"reference": there - 1}) and not planned.fits({"cpu": here - 1})
    assert planned.fits("1 GiB") and not planned.fits({"cpu": "1K"})
    short = plan(STORIES, cache_bytes=500_000, n_sequences=4)
    assert not short.holds_sequences and not short.fits("1 GiB")
    assert not caplog.records
    assert plan(STORIES, n_gpu_layers=3).share("cpu") == plan(STORIES).share("cpu")
    assert "no effect" in caplog.text


def test_sizes_in_words() -> None:
    sizes = {"1": 1, "2K": 2048, "3 MiB": 3 << 20, "1.5g": 3 << 29, "1 TB": 1 << 40, "7b": 7}
    assert {text: n_bytes(text) for text in sizes} == sizes
    for wrong in ("", "many", "-1", "1 XB"):
        with pytest.raises(ValueError, match="expected bytes"):
            n_bytes(wrong)


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendError, match="device must be one of .*'abacus'"):
        plan(STORIES, device="abacus")
    with pytest.raises(BackendError, match='expected a device as "name" or "name:1"'):
        plan(STORIES, device="reference:one")
    with pytest.raises(ValueError, match="beside the CPU"):
        plan(STORIES, device=["cpu", "reference"], n_gpu_layers=1)
    with pytest.raises(BackendError, match="tell how much of their memory is free"):
        plan(STORIES, device="reference", n_gpu_layers="auto")
    with pytest.raises(TypeError, match="n_gpu_layers as an int"):
        plan(STORIES, device="reference", n_gpu_layers="many")
    with pytest.raises(TypeError, match="n_batch"):
        plan(STORIES, n_batch=3)
    with pytest.raises(ValueError, match="n_sequences"):
        plan(STORIES, n_sequences=0)
    with pytest.raises(ValueError, match="kv_dtype must be"):
        plan(STORIES, kv_dtype="f8")
    with pytest.raises(ValueError, match="n_threads"):
        plan(STORIES, n_threads=0)
    with pytest.raises(ValueError, match="a device among"):
        plan(STORIES, device="reference", n_gpu_layers=1, overrides={"x": "cuda"})
    monkeypatch.delattr("jitllm.backends.reference.rules")
    with pytest.raises(BackendUnavailable, match="no byte rules for device 'reference' yet"):
        backends.byte_rules("reference")


def test_forms(capsys: pytest.CaptureFixture[str]) -> None:
    planned = plan(STORIES, device="reference", n_gpu_layers=2)
    text, html = str(planned), planned._repr_html_()
    for share in planned.shares:
        for size in (share.device, f"{share.weights:,}", f"{share.total:,}"):
            assert size in text and size in html
    assert main(["plan", STORIES, "--device", "reference", "-ngl", "2"]) == 0
    assert capsys.readouterr().out == text + "\n"
    assert main(["plan", STORIES, "--device", "reference", "-ngl", "2", "--json"]) == 0
    (shown,) = json.loads(capsys.readouterr().out)
    assert shown["total"] == planned.total and shown["n_layers_on_device"] == 1
    assert shown["placement"]["layers"] == list(planned.placement.layers)
    assert [share["total"] for share in shown["shares"]] == [s.total for s in planned.shares]


def test_the_picture_shows_the_bytes() -> None:
    pytest.importorskip("matplotlib").use("Agg")
    planned = plan(STORIES, device="reference", n_gpu_layers=2)
    bars = [bar for container in planned.plot().containers for bar in container]
    assert len(bars) == 3 * len(planned.shares)
    assert sum(bar.get_height() for bar in bars) == pytest.approx(planned.total / 2**20)


def test_the_command_refuses() -> None:
    common = ["plan", STORIES, "--device", "reference"]
    for wrong in (["-ngl", "few"], ["-ts", "a"], ["-ot", "x"]):
        assert main([*common, *wrong]) == 2
    for alone in ("auto", "-1"):
        assert main([*common, "-ngl", alone]) == 1
    assert main(["plan", STORIES, "--device", "abacus"]) == 1


def test_the_command_takes_what_loading_does(capsys: pytest.CaptureFixture[str]) -> None:
    settings: dict[str, Any] = {
        "n_ctx": 99,
        "kv_dtype": "f32/bf16",
        "precision": "exact",
        "n_threads": 1,
    }
    given = ["-c", "99", "-ctk", "f32", "-ctv", "bf16", "--precision", "exact", "-t", "1"]
    assert main(["plan", STORIES, *given, "--cache-bytes", "1M", "-np", "2"]) == 0
    expected = plan(STORIES, **settings, cache_bytes=1 << 20, n_sequences=2)
    assert capsys.readouterr().out == f"{expected}\n"
