"""Importance matrices: what is measured against llama.cpp and by hand, files, the command."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from driver import devices, opens, simulate_cuda
from models import model_path
from numpy.typing import NDArray
from tiny import conformance_model, write_gguf
from variants import lora as lora_files
from variants.written import written_model

import jitllm
from jitllm.llm import cli, imatrix
from jitllm.llm.quantize.importance import Importance, Squares, combine, load_importance
from jitllm.llm.quantize.importance_statistics import statistics

N_CTX, QUERY, EXPERTS = 64, "blk.0.attn_q.weight", "blk.0.ffn_down_exps.weight"
LLAMA_CPP = np.load(Path(__file__).parents[1] / "data" / "imatrix.npz")  # see record_imatrix.py


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose tokens choose different experts."""
    return conformance_model("llama-moe.routed", tmp_path_factory.mktemp("imatrix") / "moe.gguf")


def _recorded(name: str) -> dict[str, Squares]:
    keys = [key.split("/") for key in LLAMA_CPP.files if key.startswith(f"{name}/")]
    return {
        tensor[0]: Squares(
            LLAMA_CPP[f"{name}/{tensor[0]}/sums"].astype(np.float64),
            LLAMA_CPP[f"{name}/{tensor[0]}/counts"].astype(np.float64),
        )
        for _, *tensor in keys
        if len(tensor) == 2
    }


def _load(path: Path, device: str = "cpu", precision: Any = "exact") -> jitllm.Model:
    return jitllm.load(path, device=device, precision=precision, kv_dtype="f32", progress=False)


@pytest.mark.parametrize("device", devices())
@pytest.mark.parametrize("name", ["stories260K", "moe"])
def test_the_numbers_are_those_of_llama_cpp(name: str, device: str, routed: Path) -> None:
    expected = _recorded(name)
    with _load(routed if name == "moe" else model_path(name), device) as model:
        tokens = LLAMA_CPP[f"{name}/tokens"].tolist()
        measured = imatrix.measure(model, tokens, n_ctx=N_CTX, process_output=True)
    assert measured.squares.keys() == expected.keys()
    for tensor, (sums, counts) in measured.squares.items():
        assert np.array_equal(counts, expected[tensor].counts), tensor
        np.testing.assert_allclose(
            sums, expected[tensor].sums, rtol=1e-3, atol=1e-5 * sums.max(), err_msg=tensor
        )
    assert (measured.n_chunks, measured.chunk_size) == (2, N_CTX)


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=pytest.mark.slow), "vulkan"])
def test_gpus_measure_what_the_cpu_does(
    device: str, routed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate_cuda(monkeypatch)
    if not opens(device):
        pytest.skip(f"no device for {device} here")
    results = []
    for where in (device, "cpu"):
        with _load(routed, where) as model:
            tokens = LLAMA_CPP["moe/tokens"].tolist()
            results.append(imatrix.measure(model, tokens, n_ctx=N_CTX).squares)
    found, expected = results
    assert found.keys() == expected.keys() and EXPERTS in found
    for tensor, (sums, counts) in found.items():
        want = expected[tensor]
        assert np.array_equal(counts, want.counts), tensor
        np.testing.assert_allclose(
            sums, want.sums, rtol=1e-6, atol=1e-6 * want.sums.max(), err_msg=tensor
        )


def test_squares_are_those_of_what_a_matrix_reads(reference: jitllm.Model) -> None:
    tokens = [1, *range(300, 349)]
    graph = reference.engine.graph
    measured = imatrix.measure(reference, tokens, n_ctx=25)
    assert reference.engine.graph is graph
    tokens[25] = 1  # every chunk starts with the token of beginning
    for tensor, point in ((QUERY, "attn_norm"), ("blk.0.ffn_down.weight", "ffn_act")):
        seen = [reference.run_with_cache(tokens[i : i + 25], f"blk.0.{point}")[1][f"blk.0.{point}"]
                for i in (0, 25)]  # fmt: skip
        rows = np.concatenate(seen).astype(np.float64)
        sums, counts = measured.squares[tensor]
        np.testing.assert_allclose(sums, (rows**2).sum(axis=0, keepdims=True), rtol=1e-5)
        assert counts == [50]
    assert "output.weight" not in measured.squares


def test_fast_experts_and_single_tokens(routed: Path) -> None:
    tokens = LLAMA_CPP["moe/tokens"].tolist()[:9]
    with _load(routed, precision="fast") as model:
        whole = imatrix.measure(model, tokens, n_ctx=9)
        alone = imatrix.measure(model, tokens, n_ctx=1)
    with _load(routed, "reference") as model:
        exact = imatrix.measure(model, tokens, n_ctx=9)
        exact_alone = imatrix.measure(model, tokens, n_ctx=1)
    for mine, theirs in ((whole, exact), (alone, exact_alone)):
        for tensor, (sums, counts) in mine.squares.items():
            assert np.array_equal(counts, theirs.squares[tensor].counts), tensor
            expected = theirs.squares[tensor].sums
            np.testing.assert_allclose(sums, expected, rtol=0.2, atol=0.02 * expected.max())
    assert whole.squares[EXPERTS].counts.sum() == alone.squares[EXPERTS].counts.sum() == 18


def test_chunks(stories: jitllm.Model) -> None:
    text, seen = "Once upon a time there was a cat. " * 20, list[int]()
    whole = stories.tokenize(text)
    some = imatrix.measure(
        stories, text, n_ctx=16, first_chunk=1, n_chunks=3, dataset="cats",
        each=lambda so_far: seen.append(so_far.n_chunks),
    )  # fmt: skip
    assert (some.n_chunks, some.datasets, seen) == (3, ("cats",), [1, 2])
    same = imatrix.measure(stories, whole[16:64], n_ctx=16)
    assert all(np.array_equal(same.squares[name].sums, squares.sums)
               for name, squares in some.squares.items())  # fmt: skip
    with pytest.raises(ValueError, match="at least 4096 tokens|at most 512 tokens"):
        imatrix.measure(stories, text, n_ctx=4096)
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"n_ctx": 500}, "at least 500 tokens behind 0 chunks"),
        ({"n_ctx": 16, "first_chunk": 99}, "got 0 chunks"),
        ({"n_ctx": 16, "n_chunks": 0}, "n_chunks=0"),
        ({"n_ctx": 0}, "n_ctx from 1"),
        ({"n_ctx": 16, "first_chunk": -1}, "first_chunk from 0"),
    )
    for words, message in cases:
        with pytest.raises(ValueError, match=message):
            imatrix.measure(stories, whole, **words)


def test_an_interrupt_leaves_the_model_as_it_was(routed: Path) -> None:
    def stop(so_far: Importance) -> None:
        raise KeyboardInterrupt

    with _load(routed) as model:
        graph, before = model.engine.graph, model.forward([5, 9, 3])
        with pytest.raises(KeyboardInterrupt):
            imatrix.measure(model, list(range(3, 40)), n_ctx=8, each=stop)
        assert model.engine.graph is graph
        assert np.array_equal(model.forward([5, 9, 3]), before)
        assert model.engine.memory()["caches_used"] == 0


def test_an_encoder_and_its_decoder(tmp_path: Path) -> None:
    with _load(written_model("t5", tmp_path / "t5.gguf")) as model:
        measured = imatrix.measure(model, list(range(3, 60)), n_ctx=20)
    counts = {name: squares.counts.item() for name, squares in measured.squares.items()}
    assert counts.keys() >= {"enc.blk.0.attn_q.weight", "dec.blk.1.cross_attn_k.weight"}
    assert set(counts.values()) == {40.0}


def test_with_an_adapter(routed: Path) -> None:
    tokens = LLAMA_CPP["moe/tokens"].tolist()[:32]
    with _load(routed) as model:
        plain = imatrix.measure(model, tokens, n_ctx=16)
        with lora_files.adapter(routed, 0).applied(model):
            adapted = imatrix.measure(model, tokens, n_ctx=16)
        again = imatrix.measure(model, tokens, n_ctx=16)
    assert adapted.squares.keys() == plain.squares.keys()
    for name, squares in plain.squares.items():
        assert np.array_equal(again.squares[name].sums, squares.sums)
        assert not np.allclose(adapted.squares[name].sums, squares.sums)


def _made(**arrays: tuple[Any, Any]) -> Importance:
    squares = {
        name: Squares(np.array(sums, np.float64), np.array(counts, np.float64))
        for name, (sums, counts) in arrays.items()
    }
    return Importance(squares, ("one", "two"), 3, 4)


MADE = _made(dense=([[8.0, 2.0, 0.0]], [16]), experts=([[6.0, 3.0], [0.0, 0.0]], [3, 0]))


def test_gguf_is_what_llama_quantize_reads(tmp_path: Path) -> None:
    path = tmp_path / "i.gguf"
    MADE.save(path)
    reader = gguf.GGUFReader(path)
    assert reader.fields["general.type"].contents() == "imatrix"
    assert reader.fields["imatrix.datasets"].contents() == ["one", "two"]
    assert reader.fields["imatrix.chunk_count"].contents() == 3
    assert reader.fields["imatrix.chunk_size"].contents() == 4
    assert [(t.name, t.shape.tolist(), t.data.reshape(-1).tolist()) for t in reader.tensors] == [
        ("dense.in_sum2", [3, 1], [8, 2, 0]),
        ("dense.counts", [1, 1], [16]),
        ("experts.in_sum2", [2, 2], [6, 3, 0, 0]),
        ("experts.counts", [1, 2], [3, 0]),
    ]
    again = load_importance(path)
    assert (again.datasets, again.n_chunks, again.chunk_size) == (("one", "two"), 3, 4)
    for name, squares in MADE.squares.items():
        assert all(map(np.array_equal, again.squares[name], squares))
    assert np.array_equal(again.columns["experts"], [[2, 1], [1, 1]])  # never chosen: 1
    assert (
        again.of("dense", (5, 3)) is again.columns["dense"] or again.of("dense", (5, 3)) is not None
    )
    dense = again.of("dense", (5, 3))
    assert dense is not None and np.array_equal(dense, [[0.5, 0.125, 0]])
    assert again.of("other", (5, 3)) is None
    with pytest.raises(jitllm.ModelFormatError, match=r"shape \(3, 3\), got \(2, 2\)"):
        again.of("experts", (3, 5, 3))


def test_the_older_format(tmp_path: Path) -> None:
    path = tmp_path / "i.dat"
    MADE.save(path)
    expected = struct.pack("<ii5sii3f", 2, 5, b"dense", 4, 3, 0.5 * 4, 0.125 * 4, 0)
    expected += struct.pack("<i7sii4f", 7, b"experts", 1, 4, 2, 1, 1, 1)
    assert path.read_bytes() == expected + struct.pack("<ii3s", 3, 3, b"two")
    again = load_importance(path, chunk_size=4)
    assert (again.datasets, again.n_chunks, again.dataset) == (("two",), 3, "two")
    assert np.array_equal(again.columns["dense"], [[0.5, 0.125, 0]])
    found = again.of("experts", (2, 9, 2))
    assert found is not None and np.array_equal(found, [[2, 1], [1, 1]])
    assert [p.name for p in tmp_path.iterdir()] == ["i.dat"]
    short = tmp_path / "short.dat"
    short.write_bytes(expected)  # the end may be missing
    assert load_importance(short).n_chunks == 0
    for broken in (expected[:-1], expected[:9], struct.pack("<ii", 1, -1), b"GG"):
        short.write_bytes(broken)
        with pytest.raises(jitllm.ModelFormatError, match="no importance matrix"):
            load_importance(short)


def test_combining(tmp_path: Path) -> None:
    more = _made(experts=([[1.0, 1.0], [4.0, 2.0]], [1, 2]), other=([[1.0]], [40]))
    both = combine([MADE, more])
    assert both.squares.keys() == {"dense", "experts", "other"}
    assert np.array_equal(both.squares["experts"].sums, [[7, 4], [4, 2]])
    assert np.array_equal(both.squares["experts"].counts, [4, 2])
    assert (both.n_chunks, both.datasets) == (10, ("one", "two", "one", "two"))
    MADE.save(tmp_path / "i.dat")  # one count for all experts
    old = combine([more, load_importance(tmp_path / "i.dat", 4)])
    assert np.array_equal(old.squares["experts"].counts, [5, 6])
    assert np.array_equal(old.squares["experts"].sums, [[9, 5], [8, 6]])
    with pytest.raises(jitllm.ModelFormatError, match="'other'.*different models"):
        combine([more, _made(other=([[1.0, 2.0]], [40]))])
    with pytest.raises(ValueError, match="got none"):
        combine([])


def test_statistics() -> None:
    sums = [[8.0, 0.0, 8.0, 16.0], [0.0, 0.0, 0.0, 0.0]]
    made = _made(**{
        "blk.0.x.weight": ([[2.0, 2.0, 0.0, 0.0]], [2]),
        "blk.1.x.weight": (sums[:1], [4]),
        "blk.1.y.weight": (sums, [4, 0]),
        "blk.2.y.weight": (sums[1:], [0]),
    })  # fmt: skip
    first, second, experts = statistics(made)
    assert first == ("blk.0.x.weight", 4, 2, 0, 1, 0.5, 0.5, 0.5, 1, 0, 0)
    expected = (4, 8, 0, 4, 2, np.sqrt(2), 0.75, 1.5, 0.25, 16 / np.sqrt(8 * 384))
    assert second[1:] == pytest.approx(expected)
    assert experts[1:] == pytest.approx((*expected[:-1], 0))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"x": [[1.0]]}, "got none; this is no importance matrix"),
        ({"x.in_sum2": [[np.nan]], "x.counts": [[1.0]]}, "'x': expected finite importance"),
        ({"x.in_sum2": [[-1.0]], "x.counts": [[1.0]]}, "'x': expected finite importance"),
        ({"x.in_sum2": [[1.0]], "x.counts": [[1.0], [2.0]]}, "expected 1 counts, got 2"),
        ({"x.in_sum2": [[1.0]]}, "'x.counts'"),
    ],
)
def test_files_that_hold_none(tmp_path: Path, tensors: dict[str, Any], message: str) -> None:
    arrays: dict[str, NDArray[Any]] = {k: np.array(v, np.float32) for k, v in tensors.items()}
    path = write_gguf(tmp_path / "i.gguf", {"general.type": "imatrix"}, arrays)
    with pytest.raises(jitllm.ModelFormatError, match=message):
        load_importance(path)
    with pytest.raises(jitllm.ModelNotFoundError):
        load_importance(tmp_path / "none.gguf")


@pytest.fixture
def text(tmp_path: Path) -> Iterator[Path]:
    """A text of a few chunks."""
    path = tmp_path / "text.txt"
    path.write_text("Once upon a time there was a little girl who liked to play. " * 8)
    yield path


def test_command(tmp_path: Path, text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = str(model_path("stories260K")), tmp_path / "i.gguf"
    options = ["-c", "32", "--chunks", "2", "-ofreq", "1", "-q"]
    assert cli.main(["imatrix", model, str(text), "-o", str(out), *options]) == 0
    assert capsys.readouterr().out == f"{out}: 35 tensors, 2 chunks\n"
    first = load_importance(out)
    assert (first.datasets, first.chunk_size) == ((str(text),), 32)
    more = ["imatrix", "-m", model, "-f", str(text), "--in-file", str(out), "-o"]
    assert cli.main([*more, str(tmp_path / "sum.gguf"), *options]) == 0
    assert cli.main(["imatrix", "--in-file", str(out), "--in-file", str(out), "-o",
                     str(tmp_path / "two.gguf")]) == 0  # fmt: skip
    two, added = (load_importance(tmp_path / f"{name}.gguf") for name in ("two", "sum"))
    assert two.n_chunks == added.n_chunks == 4
    assert all(np.array_equal(added.squares[k].sums, two.squares[k].sums) for k in two.squares)
    assert {path.name for path in tmp_path.iterdir()} == {
        "i.gguf", "sum.gguf", "two.gguf", "text.txt",
    }  # fmt: skip
    small = tmp_path / "small.gguf"
    assert cli.main(["quantize", model, str(small), "Q4_0", "--imatrix", str(out), "-q",
                     "--requantize"]) == 0  # fmt: skip
    with jitllm.llm.loaders.gguf.GGUFFile(small) as file:  # type: ignore[attr-defined]
        assert file.get("quantize.imatrix.entries_count", int) == 35
    capsys.readouterr()
    assert cli.main(["imatrix", "--show-statistics", "--in-file", str(out)]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["name", "n", "total"]
    assert [line.split()[0] for line in lines] == [*first.squares]
    shown = ["imatrix", "--show-statistics"]
    for wrong in (["imatrix"], ["imatrix", model], ["imatrix", "-f", str(text)], shown):
        assert cli.main(wrong) == cli.USAGE
