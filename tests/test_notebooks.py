"""The notebooks run, in order and in a real kernel, and keep what they promise."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from models import model_path

EXAMPLES = Path(__file__).parent.parent / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))

# Added behind the quickstart's cells: what its plots show, as numbers.
QUICKSTART_VALUES = """
import json
print(json.dumps({
    "shape": logits.shape, "best": int(last.argmax()), "paris": paris, "same_bits": same_bits,
    "seeded": again.token_ids == b.token_ids, "n_layers": len(scores), "heads": heads,
    "induction": scores.max().item(), "typical": float(np.median(scores)),
    "losses": [plain, without_induction, without_others],
    "early": flips[0].tolist(), "late": flips[-1].tolist(), "ranks": ranks.tolist(),
    "lens_is_last": bool(np.array_equal(lens[-1], logits[-1])),
    "perplexity": perplexity.value, "scored": len(scored),
}))
"""


def _notebook(path: Path) -> Any:
    import nbformat

    return nbformat.read(path, as_version=4)


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a kernel of this interpreter, known for the time of a test."""
    from ipykernel.kernelspec import write_kernel_spec

    write_kernel_spec(str(tmp_path / "kernels" / "this-interpreter"))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    for name in ("JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    return "this-interpreter"


def _run(path: Path, kernel: str, code: str) -> dict[str, Any]:
    """Run a notebook and then `code`; returns the JSON that `code` prints."""
    from nbclient import NotebookClient
    from nbformat.v4 import new_code_cell

    notebook = _notebook(path)
    notebook.cells.append(new_code_cell(code))
    resources = {"metadata": {"path": str(path.parent)}}
    client = NotebookClient(notebook, timeout=300, kernel_name=kernel, resources=resources)
    client.execute()
    printed = "".join(o.text for o in notebook.cells[-1].outputs if o.output_type == "stream")
    values: dict[str, Any] = json.loads(printed)
    return values


def test_the_kernel_is_this_interpreter(kernel: str, tmp_path: Path) -> None:
    import nbformat

    path = tmp_path / "empty.ipynb"
    nbformat.write(nbformat.v4.new_notebook(), path)
    code = "import json, sys; print(json.dumps({'executable': sys.executable}))"
    assert _run(path, kernel, code) == {"executable": sys.executable}


def test_quickstart(kernel: str) -> None:
    model_path("smollm2")  # in the cache before the clock runs
    got = _run(EXAMPLES / "quickstart.ipynb", kernel, QUICKSTART_VALUES)
    assert got["shape"] == [5, 49152]
    assert got["best"] == got["paris"]
    assert got["same_bits"] and got["seeded"] and got["lens_is_last"]
    assert got["n_layers"] == 30 and len(got["heads"]) == 5
    # heads that induce stand out, and losing them costs more than losing their neighbours
    assert got["induction"] > 0.7 > 0.1 > got["typical"]
    plain, without_induction, without_others = got["losses"]
    assert without_induction < without_others < plain < 0
    # the fact lies at the country at first, at the last token in the end, and nowhere else
    assert [value > 0 for value in got["early"]] == [False, False, False, True, False]
    assert [value > 0 for value in got["late"]] == [False, False, False, False, True]
    assert got["ranks"][0] > 100 and got["ranks"][-1] == 0
    assert 10 < got["perplexity"] < 100 and got["scored"] > 100


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_there_and_are_of_no_machine(path: Path) -> None:
    notebook = _notebook(path)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == [*range(1, len(cells) + 1)]
    outputs = [output for cell in cells for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    assert set(notebook.metadata.kernelspec.values()) == {"Python 3", "python", "python3"}
    assert dict(notebook.metadata.language_info) == {"name": "python"}
    assert not [cell for cell in notebook.cells if cell.metadata]
    images = [o.data.pop("image/png") for o in outputs if "image/png" in o.get("data", {})]
    assert max(map(len, images)) < 64_000  # base64
    assert not re.search(r"(?<![\w.])/\w+/\w|[A-Z]:\\\\|0x[0-9a-f]{6}", json.dumps(notebook))
