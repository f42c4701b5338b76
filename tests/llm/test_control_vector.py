"""Control vectors: what they are made of, their files, and what they change."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from models import model_path
from numpy.typing import NDArray
from tiny import conformance_model, write_gguf

import jitllm
from jitllm import ControlVector

GOOD = ["The dog was happy.", "She was happy and", "A good day and a big red ball"]
BAD = ["The dog was sad.", "She was sad and", "A bad day and no"]
HIDDEN = 64


def _differences(model: jitllm.Model, layer: int) -> NDArray[np.float64]:
    name = f"blk.{layer}.l_out"
    rows = [
        [model.run_with_cache(text, name)[1][name][-1] for text in side] for side in (GOOD, BAD)
    ]
    table = np.array(rows, np.float64)
    return np.asarray(table[0] - table[1])


def test_mean_difference(stories: jitllm.Model) -> None:
    vector = ControlVector.from_pairs(stories, GOOD, BAD)
    assert vector.layers == (1, 2, 3, 4)
    assert vector.model_hint == "llama"
    for layer in vector.layers:
        expected = _differences(stories, layer).mean(axis=0)
        assert vector.directions[layer] == pytest.approx(expected, abs=1e-4)
        assert vector.directions[layer].dtype == np.float32


def test_principal_direction(reference: jitllm.Model) -> None:
    vector = ControlVector.from_pairs(reference, GOOD, BAD, "pca")
    for layer, direction in vector.directions.items():
        rows = _differences(reference, layer)
        values, vectors = np.linalg.eigh(rows.T @ rows / len(rows))
        assert np.linalg.norm(direction) ** 2 == pytest.approx(values[-1], rel=1e-3)
        assert abs(direction @ vectors[:, -1]) == pytest.approx(values[-1] ** 0.5, rel=1e-3)
        assert direction @ rows.mean(axis=0) > 0
    one_pair = ControlVector.from_pairs(reference, GOOD[:1], BAD[:1], "pca")
    same = ControlVector.from_pairs(reference, GOOD[:1], BAD[:1])
    for layer in same.layers:
        assert one_pair.directions[layer] == pytest.approx(same.directions[layer], abs=1e-4)


def test_prompts_longer_than_a_piece(reference: jitllm.Model) -> None:
    with jitllm.load(
        model_path("stories260K"), device="reference", n_ctx=640, progress=False
    ) as model:
        ids = [1, *([300, 310] * 300)]
        vector = ControlVector.from_pairs(model, [ids], [[*ids[:-1], 320]])
        rows = [model.run_with_cache([*ids[:-1], end], "blk.1.l_out")[1]["blk.1.l_out"]
                for end in (310, 320)]  # fmt: skip
        assert vector.directions[1] == pytest.approx(rows[0][-1] - rows[1][-1], abs=1e-4)


def test_steering_adds_to_the_residual_stream(stories: jitllm.Model) -> None:
    vector = ControlVector.from_pairs(stories, GOOD, BAD)
    name = "blk.1.l_out"
    plain, before = stories.run_with_cache("One day", [name])
    with vector.steering(stories, scale=-2.0, layers=[1]) as model:
        assert model is stories
        steered, after = stories.run_with_cache("One day", [name])
    assert after[name] == pytest.approx(before[name] - 2 * vector.directions[1], abs=1e-3)
    assert not np.allclose(plain, steered, atol=1e-2)
    assert np.array_equal(stories.forward("One day"), plain)


def test_all_layers_are_those_with_a_direction(reference: jitllm.Model) -> None:
    rng = np.random.default_rng(3)
    made = {i: rng.normal(size=HIDDEN).astype(np.float32) for i in (3, 1)}
    vector = ControlVector(made)
    adding = [(f"blk.{i}.l_out", lambda a, hook, i=i: a + 0.5 * made[i]) for i in made]
    expected = reference.run_with_hooks("One day", adding)
    with vector.steering(reference, scale=0.5):
        assert reference.forward("One day") == pytest.approx(expected, abs=1e-4)
    plain = reference.forward("One day")
    with vector.steering(reference, layers=[]):
        assert np.array_equal(reference.forward("One day"), plain)
    assert repr(vector) == f"<ControlVector: 2 layers, width {HIDDEN}>"


def _file(path: Path, tensors: dict[str, Any], **metadata: Any) -> Path:
    return write_gguf(path, {"general.architecture": "controlvector", **metadata}, tensors)


def test_files_of_llama_cpp(tmp_path: Path) -> None:
    made = {i: np.arange(HIDDEN, dtype=np.float32) + i for i in (1, 2, 11)}
    path = _file(
        tmp_path / "v.gguf",
        {f"direction.{i}": array for i, array in made.items()} | {"other": np.zeros(3, "f4")},
        **{"controlvector.model_hint": "llama", "controlvector.layer_count": 3},
    )
    vector = ControlVector.load(path)
    assert vector.layers == (1, 2, 11) and vector.model_hint == "llama"
    assert all(np.array_equal(vector.directions[i], made[i]) for i in made)
    path.unlink()
    assert vector.directions[11][1] == 12


def test_saved_files_are_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    made = {i: rng.normal(size=HIDDEN).astype(np.float32) for i in (1, 2, 7)}
    ControlVector(made, "llama").save(tmp_path / "v.gguf")
    again = ControlVector.load(tmp_path / "v.gguf")
    assert again.model_hint == "llama" and again.layers == (1, 2, 7)
    reader = gguf.GGUFReader(tmp_path / "v.gguf")
    assert reader.fields["general.architecture"].contents() == "controlvector"
    assert reader.fields["controlvector.layer_count"].contents() == 3
    assert [tensor.name for tensor in reader.tensors] == [f"direction.{i}" for i in made]
    for tensor, (layer, direction) in zip(reader.tensors, made.items(), strict=True):
        assert np.array_equal(tensor.data, direction)
        assert np.array_equal(again.directions[layer], direction)
    with pytest.raises(OSError):
        again.save(tmp_path / "no folder" / "v.gguf")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"token_embd.weight": np.zeros((4, 32), "f4")}, "this is no control vector"),
        ({"direction.1": np.zeros(8, "f2")}, "'direction.1': expected type F32, got F16"),
        ({"direction.0": np.zeros(8, "f4")}, "layers from 1 on"),
        ({"direction.1": np.zeros((2, 8), "f4")}, "expected vectors of one width"),
        ({"direction.1": np.zeros(8, "f4"), "direction.2": np.zeros(9, "f4")}, "of one width"),
        ({"direction.1": np.full(8, np.nan, "f4")}, r"got others in layers \[1\]"),
    ],
)
def test_files_that_hold_none(tmp_path: Path, tensors: dict[str, Any], message: str) -> None:
    with pytest.raises(jitllm.GGUFError, match=message):
        ControlVector.load(_file(tmp_path / "v.gguf", tensors))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(jitllm.ModelNotFoundError):
        ControlVector.load(tmp_path / "none.gguf")


def test_pairs_that_are_none(reference: jitllm.Model) -> None:
    with pytest.raises(ValueError, match="in pairs, got 3 and 2"):
        ControlVector.from_pairs(reference, GOOD, BAD[:2])
    with pytest.raises(ValueError, match="expected"):
        ControlVector.from_pairs(reference, [], [])
    with pytest.raises(ValueError, match="mean_diff, pca, got 'median'"):
        ControlVector.from_pairs(reference, GOOD, BAD, "median")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="vectors of one width"):
        ControlVector({})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": [0]}, r"layers of \[1\] and a finite scale, got \[0\]"),
        ({"scale": float("nan")}, "got nan"),
    ],
)
def test_steering_that_cannot_be(
    reference: jitllm.Model, options: dict[str, Any], message: str
) -> None:
    vector = ControlVector({1: np.zeros(HIDDEN, np.float32)})
    with pytest.raises(ValueError, match=message), vector.steering(reference, **options):
        pass


def test_another_models_vector(
    reference: jitllm.Model, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for directions in ({1: np.zeros(65, "f4")}, {5: np.zeros(HIDDEN, "f4")}):
        vector = ControlVector(directions)
        with pytest.raises(ValueError, match="for another model"), vector.steering(reference):
            pass
    path = conformance_model("qwen2-dense", tmp_path_factory.mktemp("model") / "m.gguf")
    with jitllm.load(path, device="reference", progress=False) as model:
        with pytest.raises(ValueError, match="for another model"):
            with ControlVector({1: np.zeros(HIDDEN, "f4")}).steering(model):
                pass
