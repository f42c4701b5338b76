"""Models whose layers are on several devices: the logits of one device, the bytes of the plan."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driver import nmse, opens
from logits import Files, written_once
from models import model_path
from numpy.typing import NDArray
from tiny import conformance_golden, conformance_model, conformance_names
from variants import lora
from variants.encoders import encoder_model
from variants.nextn import nextn_golden, nextn_model
from variants.written import written_model

import jitllm
from jitllm.backends._gpu.program import GpuProgram
from jitllm.backends._split.graph import Homes, cut, node_devices
from jitllm.backends._split.program import SplitProgram
from jitllm.backends.base import Batch, BestSteps, Tap
from jitllm.backends.placement import place
from jitllm.llm.cli import main
from jitllm.llm.errors import BackendError
from jitllm.llm.loaders.gguf import GGUFFile
from jitllm.llm.models.loading import open_model
from jitllm.llm.placing import Placing
from jitllm.llm.state.engine import Engine
from jitllm.llm.state.nextn import HiddenRows, NextnBlock

STORIES = str(model_path("stories260K"))
LAYERS, MAX_NMSE = 5, 1e-6
TOKENS = [1, *range(3, 90)]
TWO = ["reference:0", "reference:1"]
HERE = pytest.mark.skipif(not opens("vulkan"), reason="no Vulkan loader or device here")
DEVICES = [
    pytest.param("reference", id="reference"),
    pytest.param(TWO, id="two"),
    pytest.param("vulkan", id="vulkan", marks=HERE),
    pytest.param(["reference", "vulkan"], id="both", marks=HERE),
]
# One of every kind: windows, states, both, sparse and latent caches, shared keys, experts.
SOME = (
    "llama-dense.gqa", "gemma3-dense", "mamba-dense", "jamba-dense", "deepseek32-moe",
    "kimi-linear-moe", "qwen2moe-moe.routed", "minimax-m3-moe", "gpt2-dense",
)  # fmt: skip
PLACES: dict[str, dict[str, Any]] = {
    "some layers": {"n_gpu_layers": 2},
    "caches at home": {"offload_kv": False},
    "feed-forward at home": {"n_cpu_moe": 99, "n_cpu_ffn": 1},
    "single tensors": {"overrides": {r"attn_(norm|out)|ssm_|\.1\.ffn": "cpu", "output": "cpu"}},
}
Floats = NDArray[np.float32]


def load(path: Path | str = STORIES, **options: Any) -> jitllm.Model:
    """Load a model whose numbers do not hide behind rounding."""
    common = {"n_ctx": 300, "precision": "exact", "kv_dtype": "f32", "n_threads": 1}
    return jitllm.load(path, progress=False, **{**common, **options})


def held(model: jitllm.Model, **options: Any) -> dict[str, Any]:
    """Compare what a model holds with its plan; returns the bytes by device."""
    common = {"n_ctx": 300, "precision": "exact", "kv_dtype": "f32", "n_threads": 1}
    shares = jitllm.plan(model.identity.paths[0], **{**common, **options}).shares
    memory = model.memory_by_device()
    planned = {
        s.device: {"weights": s.weights, "caches": s.pool, "buffers": s.compute} for s in shares
    }
    assert memory == planned
    for what in ("weights", "caches", "buffers"):
        assert model.memory()[what] == sum(each[what] for each in memory.values())
    return memory


@pytest.fixture(scope="module")
def expected() -> Floats:
    """The logits of one device."""
    with load() as model:
        return model.forward(TOKENS)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Path of a small model, written once."""
    makers = {"bert": encoder_model, "t5": written_model}

    def write(name: str, path: Path) -> Path:
        return makers.get(name, conformance_model)(name, path)

    return written_once(tmp_path_factory.mktemp("placing"), write)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("n_gpu_layers", [0, 1, LAYERS - 1, LAYERS, LAYERS + 1, LAYERS + 7, -1])
def test_every_number_of_layers(
    expected: Floats, device: str | list[str], n_gpu_layers: int
) -> None:
    options: dict[str, Any] = {"device": device, "n_gpu_layers": n_gpu_layers}
    with load(**options) as model:
        memory = held(model, **options)
        assert nmse(model.forward(TOKENS), expected) <= MAX_NMSE
    named = [device] if isinstance(device, str) else device
    n_used = sum(name in memory for name in named)
    n_placed = LAYERS + 1 if n_gpu_layers < 0 else min(n_gpu_layers, LAYERS + 1)
    assert n_used == min(n_placed, len(named))
    assert sum(memory[name]["caches"] > 0 for name in named if name in memory) == min(
        max(n_placed - 1, 0), len(named)
    )


@pytest.mark.parametrize("places", PLACES)
@pytest.mark.parametrize("device", DEVICES)
def test_what_moves(expected: Floats, device: str | list[str], places: str) -> None:
    options = {"device": device, **PLACES[places]}
    with load(**options) as model:
        held(model, **options)
        assert nmse(model.forward(TOKENS), expected) <= MAX_NMSE


def _last_logits(path: Path, tokens: NDArray[np.int32], **options: Any) -> Floats:
    """Logits of single tokens after a run of 20, or of the whole text of an encoder."""
    with load(path, n_ctx=64, cache_bytes=4_000_000, **options) as model:
        if "device" in options:
            held(model, n_ctx=64, cache_bytes=4_000_000, **options)
        tokens = tokens % model.n_vocab
        if not model.engine.remembers:
            return model.forward(tokens.tolist())
        sequence = model.sequence()
        if model.has_encoder:
            sequence.encode(tokens[:10].tolist())
        rows = [sequence.append(tokens[:20].tolist()).logits.copy()]
        rows += [sequence.append([int(t)]).logits.copy() for t in tokens[20:]]
        return np.array(rows)


def _compare(files: Files, name: str, device: str | list[str], places: list[str]) -> None:
    tokens, _ = conformance_golden(name if name in conformance_names() else SOME[0])
    expected = _last_logits(files(name), tokens)
    for each in places:
        got = _last_logits(files(name), tokens, device=device, **PLACES[each])
        assert nmse(got, expected) <= MAX_NMSE, each


@pytest.mark.parametrize("name", [*SOME, "bert", "t5"])
def test_some_architectures(files: Files, name: str) -> None:
    _compare(files, name, TWO, ["some layers", "single tensors"])


@pytest.mark.slow
@pytest.mark.parametrize("name", [*conformance_names(), "bert", "t5"])
def test_all_architectures(files: Files, name: str) -> None:
    _compare(files, name, TWO, list(PLACES))


@HERE
@pytest.mark.slow
@pytest.mark.parametrize("name", [*conformance_names(), "bert", "t5"])
def test_all_architectures_with_a_gpu(files: Files, name: str) -> None:
    _compare(files, name, ["vulkan", "reference"], list(PLACES))


@pytest.mark.parametrize("device", [TWO, pytest.param(["vulkan", "reference"], marks=HERE)])
def test_pieces_without_logits(
    expected: Floats, monkeypatch: pytest.MonkeyPatch, device: list[str]
) -> None:
    with load(device=device, overrides={"output_norm": "cpu"}) as model:
        monkeypatch.setattr(model.engine, "max_tokens", 16)
        shapes = list[tuple[int, ...]]()
        hooks = {"output_norm": lambda x, hook: shapes.append(x.shape)}
        with model.hooks(hooks), model.sequence(TOKENS) as sequence:
            assert nmse(sequence.logits, expected[-1]) <= MAX_NMSE
    assert [n for n, _ in shapes] == [0] * 5 + [1]


@HERE
@pytest.mark.parametrize("n_gpu_layers", [1, 4])
def test_the_largest_logits_are_found_where_they_are_made(
    monkeypatch: pytest.MonkeyPatch, n_gpu_layers: int
) -> None:
    several: list[dict[str, Any]] = [{"temperature": 0}, {"seed": 1}, {"seed": 2, "top_k": 7}]
    found, asked, best_steps = list[Any](), list[int](), SplitProgram.best_steps

    def noted(program: SplitProgram, batch: Batch, k: int, tap: Tap | None = None) -> BestSteps:
        asked.append(k)
        return best_steps(program, batch, k, tap)

    monkeypatch.setattr(SplitProgram, "best_steps", noted)
    with load(device="vulkan", n_gpu_layers=n_gpu_layers) as model:
        for most in (0, 128):
            monkeypatch.setattr(GpuProgram, "most_best", most)  # also where a processor does it
            assert not asked and model.engine._program.most_best == most
            found.append([model.generate("Once", max_tokens=6, **w).token_ids for w in several])
            with model.sequence(TOKENS) as sequence:
                found.append(sequence.logits.round(3).tolist())
    assert found[:2] == found[2:] and set(asked) == {1, 7, 40}


def test_a_simulated_gpu(expected: Floats, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JITLLM_CUDA", "simulator")
    if not opens("cuda"):
        pytest.skip("kernels cannot be simulated here")
    options: dict[str, Any] = {
        "device": ["cuda:0", "cuda:1"], "n_gpu_layers": 4, "overrides": {r"blk\.3\.ffn_up": "cpu"},
    }  # fmt: skip
    with load(**options) as model:
        held(model, **options)
        sequence = model.sequence(TOKENS[:9])
        assert nmse(sequence.logits, expected[8]) <= MAX_NMSE


def test_hooks_see_and_change_every_value(expected: Floats) -> None:
    seen: dict[str, dict[str, Floats]] = {}
    places: dict[str, Any] = {"device": TWO, "overrides": {"ffn_up": "cpu", "attn_k": "cpu"}}
    changes = [
        ("blk.1.l_out", lambda x, hook: x + 1),
        ("blocks.3.attn.hook_pattern", lambda x, hook: np.tril(np.ones_like(x))),
        ("blk.2.ffn_up", lambda x, hook: x * 2),
    ]
    logits = {}
    for name, options in {"one": {}, "several": places}.items():
        with load(**options) as model:
            points = "blocks.*"
            _, cache = model.run_with_cache(TOKENS[:9], points)
            seen[name] = {key: np.array(values) for key, values in cache.items()}
            logits[name] = model.run_with_hooks(TOKENS[:9], changes)
            np.testing.assert_allclose(model.forward(TOKENS), expected, rtol=0, atol=1e-3)
    assert list(seen["one"]) == list(seen["several"]) and len(seen["one"]) > 60
    for key, values in seen["one"].items():
        assert nmse(seen["several"][key], values) <= MAX_NMSE, key
    assert nmse(logits["several"], logits["one"]) <= MAX_NMSE
    assert nmse(logits["one"], expected[:9]) > 0.01


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("stories", {"device": TWO, "offload_kv": False}),
        ("jamba-dense", {"device": TWO}),
        pytest.param("stories", {"device": "vulkan", "n_gpu_layers": 3}, marks=HERE),
    ],
)
def test_states_go_from_one_device_to_several_and_back(
    tmp_path: Path, files: Files, name: str, places: dict[str, Any]
) -> None:
    path = STORIES if name == "stories" else files(name)
    options: list[dict[str, Any]] = [{}, places]
    for i, (ours, theirs) in enumerate([options, options[::-1]]):
        state = tmp_path / f"{i}.state"
        with load(path, **ours) as model, model.sequence(TOKENS[:70]) as sequence:
            sequence.save(state)
            after = sequence.append([7]).logits.copy()
        with load(path, **theirs) as model, model.load_sequence(state) as sequence:
            assert sequence.token_ids == TOKENS[:70] and sequence.n_pending <= 1
            assert nmse(sequence.append([7]).logits, after) <= MAX_NMSE


@HERE
def test_cache_types_of_the_device_that_has_the_cells(files: Files) -> None:
    options: dict[str, Any] = {"kv_dtype": "q8_0", "device": "vulkan", "n_ctx": 64}
    path, logits = files("llama-dense.gqa"), []
    options |= {"cache_bytes": 4_000_000}
    for offload_kv in (True, False):
        with load(path, **options, offload_kv=offload_kv) as model:
            held(model, **options, offload_kv=offload_kv)
            assert (model.memory_by_device()["vulkan"]["caches"] > 0) == offload_kv
            logits.append(model.forward(TOKENS[:9]))
    assert nmse(logits[0], logits[1]) <= MAX_NMSE


@pytest.mark.parametrize("name", ["llama-dense", "llama-moe.routed"])
def test_adapters(tmp_path: Path, name: str) -> None:
    path = lora.model_file(name, tmp_path)
    tokens = lora.tokens(name, 96)
    results = []
    for options in ({}, {"device": TWO, "overrides": {"attn_v": "cpu", "ffn_up": "cpu"}}):
        with load(path, n_ctx=64, **options) as model:
            before = model.memory_by_device()
            attached = lora.adapter(path, 0).attach(model, scale=0.7)
            results.append(model.forward(tokens))
            attached.detach()
            results.append(model.forward(tokens))
            after = model.memory_by_device()
        for device, sizes in before.items():  # what an adapter leaves: names
            assert after[device]["weights"] - sizes["weights"] < 64 * 1024
    adapted, plain, adapted_split, plain_split = results
    assert nmse(adapted_split, adapted) <= MAX_NMSE and nmse(plain_split, plain) <= MAX_NMSE
    assert nmse(adapted, plain) > 1e-4


def test_blocks_that_predict_further_tokens(tmp_path: Path) -> None:
    golden, path = nextn_golden("qwen35"), nextn_model("qwen35", tmp_path / "model.gguf")
    tokens, rows = [int(t) for t in golden["tokens"]], np.arange(12, 28)
    for placing in (Placing(TWO, "all"), Placing("reference", 1), Placing("reference", 2)):
        with GGUFFile(path) as file:
            model = open_model(
                file, placing, n_ctx=128, precision="exact", n_threads=1, mtp=True
            )  # fmt: skip
        engine = Engine(model, "f32")
        block, keep = NextnBlock(engine, model.mtp[0], "f32"), HiddenRows(engine.graph)
        for _ in engine.run(engine.new_cells(), tokens, 0, np.zeros(0, np.intp), [keep]):
            pass
        hidden = keep.take()
        hidden = np.concatenate([np.zeros_like(hidden[:1]), hidden[:-1]])
        logits, own = block.run(block.new_cells(), tokens, hidden, 0, rows)
        engine.close()
        assert nmse(logits, golden["logits.0"]) <= MAX_NMSE
        assert nmse(own[-4:], golden["hidden.0"]) <= MAX_NMSE


def test_rows_that_cross_share_memory() -> None:
    with load() as model:
        graph = model.engine.graph
    placement = place(LAYERS, -1, ["reference"], offload_kv=False)
    homes = Homes.of(graph, placement)
    made = cut(graph, node_devices(graph, placement, homes), homes)
    assert set(made.parts) == {"cpu", "reference"}
    # the embedding once, then q, k, v and the output of each layer
    assert len(made.values) == 1 + 4 * LAYERS and len(made.turns) == 2 + 2 * LAYERS
    widths = sum(value.width for value in made.values.values())
    assert made.row_bytes < 4 * widths / LAYERS
    for part in made.parts.values():
        assert {v for v in part.imports.values()} <= made.values.keys()


_MANIFESTS = sorted(Path("/usr/share/vulkan/icd.d").glob("lvp*.json"))
_TWO = """
import numpy as np
import jitllm
common = dict(n_ctx=64, cache_bytes=2_000_000, precision="exact", progress=False)
with jitllm.load(PATH, **common) as model:
    expected = model.forward([1, 2, 3])
with jitllm.load(PATH, device=["vulkan", "vulkan:1"], **common) as model:
    assert np.allclose(model.forward([1, 2, 3]), expected, atol=0.1)
    print(*(device for device, held in model.memory_by_device().items() if held["caches"]))
try:
    jitllm.load(PATH, device="vulkan:2", **common)
except jitllm.BackendError as error:
    print(error)
"""


@HERE
@pytest.mark.skipif(not _MANIFESTS, reason="no driver here that can be there twice")
def test_two_devices_of_a_kind(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.json" for i in range(2)]
    for path in paths:
        path.write_text(_MANIFESTS[0].read_text())
    drivers = ":".join(map(str, paths))
    names = {"VK_DRIVER_FILES": drivers, "VK_ICD_FILENAMES": drivers}
    code = _TWO.replace("PATH", repr(STORIES))
    run = subprocess.run(
        [sys.executable, "-P", "-c", code], env=os.environ | names, capture_output=True, text=True
    )
    lines = run.stdout.splitlines()
    assert lines == ["vulkan vulkan:1", "Vulkan: no usable Vulkan device number 2 among 2"], run


def _text(args: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(args) == 0
    return capsys.readouterr().out


def test_the_spellings_of_llama_cpp(capsys: pytest.CaptureFixture[str]) -> None:
    run = ["run", STORIES, "Once upon", "-n", "12", "--temp", "0", "-c", "64", "-t", "1"]
    expected = _text([*run, "--precision", "exact"], capsys)
    moved = ["--precision", "exact", "-dev", "reference", "-ngl", "4", "-nkvo", "-ot",
             r"blk\.[0-3]\.ffn_(up|gate){1,2}=CPU,attn_q=cpu", "-ncffn", "1"]  # fmt: skip
    assert _text([*run, *moved], capsys) == expected
    plan = ["plan", STORIES, "-c", "64", "-t", "1"]
    one = _text([*plan, "-dev", "Vulkan0,Vulkan1", "-ts", "3/2", "--no-kv-offload"], capsys)
    planned = jitllm.plan(
        STORIES, n_ctx=64, n_threads=1, device=["vulkan", "vulkan:1"], split=[3, 2],
        offload_kv=False,
    )  # fmt: skip
    assert one == f"{planned}\n"
    assert _text([*plan, "-dev", "none"], capsys) == _text(plan, capsys)
    assert main([*run, "-dev", "reference", "-ngl", "auto"]) == 1
    assert main([*run, "-dev", "reference", "-ot", "blk,attn"]) == 2
    assert main([*run, "-dev", "reference", "-ngl", "many"]) == 2
    assert main([*run, "-dev", "reference", "-ts", "a"]) == 2


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"device": []}, ValueError, "expected one device"),
        ({"device": ["cpu", "reference"]}, ValueError, "beside the CPU"),
        ({"device": ["reference", "reference"]}, ValueError, "different ones"),
        ({"device": "reference", "n_gpu_layers": "auto"}, BackendError, "tell how much"),
        ({"device": "reference", "n_gpu_layers": "few"}, TypeError, "n_gpu_layers as an int"),
        ({"device": "reference", "n_gpu_layers": 1.5}, TypeError, "n_gpu_layers as an int"),
        ({"device": TWO, "split": [1, 2, 3]}, ValueError, "at most 2 numbers"),
        ({"device": TWO, "split": [-1, 2]}, ValueError, "at least 0"),
        ({"device": "reference", "split": [1, 2]}, ValueError, "at most 1 numbers"),
        ({"device": TWO, "overrides": {"x": "cuda"}}, ValueError, "a device among"),
        ({"device": TWO, "overrides": {"(": "cpu"}}, ValueError, "expected an expression"),
        ({"overrides": {"ffn": "reference"}}, ValueError, "a device among"),
        ({"device": "reference", "n_cpu_moe": -1}, ValueError, "at least 0"),
        ({"device": ["reference", "abacus"]}, BackendError, "device must be one of"),
        ({"device": "cpu:1"}, BackendError, "which is one device"),
        ({"device": "reference:x"}, BackendError, 'expected a device as "name"'),
    ],
)
def test_refusals(options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        load(**options)


def test_what_has_no_effect_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with load(overrides=[], split=[1]) as model:
        assert list(model.memory_by_device()) == ["cpu"]
    assert not caplog.text
    with load(n_gpu_layers=3, cpu_moe=True) as model:
        assert list(model.memory_by_device()) == ["cpu"]
    assert "n_gpu_layers, cpu_moe: no effect with device='cpu'" in caplog.text
