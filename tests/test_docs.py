"""What the documents say of files, variables, errors and hooks is so, and nothing is left out."""

import ast
import contextlib
import dataclasses
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import model_path
from tiny import conformance_model, write_gguf
from variants import variant_model
from variants.encoders import encoder_model

import jitllm
from jitllm import backends
from jitllm.backends.base import BackendUnavailable
from jitllm.llm import errors
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph import hook_names
from jitllm.llm.sampling import SamplingError
from jitllm.llm.state_files.file import StateFile

ROOT = Path(__file__).parent.parent
DOCS = sorted((ROOT / "docs").glob("*.md"))
SOURCES = sorted(path for top in ("jitllm", "llm", "backends", "kernels")
                 for path in (ROOT / top).resolve().rglob("*.py"))  # fmt: skip
_PATH = re.compile(r"`((?:llm|kernels|backends|jitllm|tests|examples)/[\w./]*\w(?:\.\w+)?)`")
_NAMED = re.compile(r"`([\w/]+\.py)`(?: \(|, )((?:`[A-Za-z_][\w.]*`(?:, )?)+)")


def _text(name: str) -> str:
    return (ROOT / "docs" / name).read_text("utf-8")


def _exists(place: str) -> bool:
    return (ROOT / place).exists()


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_files_that_are_named_exist(path: Path) -> None:
    named = _PATH.findall(path.read_text("utf-8"))
    assert [place for place in named if not _exists(place)] == []


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text("utf-8"))
    assert [link for link in links if not (path.parent / link).exists()] == []


def _defined(path: Path) -> set[str]:
    """Names of a file's functions, classes, methods and constants."""
    names = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{inner.name}" for inner in node.body
                      if isinstance(inner, ast.FunctionDef)}  # fmt: skip
        if isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def test_names_stand_in_the_files_that_are_named_with_them() -> None:
    pairs = [(place, name) for place, names in _NAMED.findall(_text("ARCHITECTURE.md"))
             for name in re.findall(r"`([^`]+)`", names) if "/" not in name]  # fmt: skip
    assert len(pairs) > 30
    assert [f"{place} {name}" for place, name in pairs if name not in _defined(ROOT / place)] == []


def test_a_missing_name_is_found() -> None:
    assert _NAMED.findall("`llm/api.py` (`load`, `unload`)") == [("llm/api.py", "`load`, `unload`")]
    assert "load" in _defined(ROOT / "llm/api.py")
    assert "unload" not in _defined(ROOT / "llm/api.py")
    assert _PATH.findall("`llm/none.py` and `llm`") == ["llm/none.py"] and not _exists(
        "llm/none.py"
    )


@pytest.mark.parametrize(
    ("column", "folder", "skip"),
    [
        ("`llm/models/", "llm/models", {"loading"}),
        ("`kernels/formats/", "kernels/formats", {"ids"}),
        ("`llm/tokenizer/model_", "llm/tokenizer", set()),
    ],
)
def test_files_to_read_first_have_what_the_table_says(
    column: str, folder: str, skip: set[str]
) -> None:
    """Every file of a registry has the names that the table asks of a new one."""
    row = next(line for line in _text("ARCHITECTURE.md").splitlines()
               if line.startswith("| a") and column in line)  # fmt: skip
    wanted = re.findall(r"`(\w+)", row.split("|")[3].partition(";")[0])[:1]
    assert wanted[0] in ("build", "FORMAT", "Encoder")
    pattern = "model_*.py" if "tokenizer" in folder else "[a-z]*.py"
    files = [path for path in (ROOT / folder).glob(pattern) if path.stem not in skip]
    assert files and [path.name for path in files if wanted[0] not in _defined(path)] == []


def _variables(path: Path) -> Iterator[str]:
    """Environment variables that a file reads."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
            ("environ.get", "getenv")
        ):
            yield ast.literal_eval(node.args[0])
        if isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("environ"):
            yield ast.literal_eval(node.slice)
        if isinstance(node, ast.Attribute) and node.attr.startswith("HF_"):  # the hub's constants
            yield node.attr


def test_all_environment_variables_are_told() -> None:
    read = {name for path in SOURCES for name in _variables(path)}
    told = {name for line in _text("env.md").splitlines() if line.startswith("| `")
            for name in re.findall(r"`(\w+)`", line.split("|")[1])}  # fmt: skip
    assert {"JITLLM_CACHE", "JITLLM_SIMD", "HF_HUB_OFFLINE"} <= read
    assert read <= told
    assert {name for name in told if name.startswith("JITLLM_")} <= read


def test_config_fields_of_the_glossary_exist() -> None:
    table = _text("GLOSSARY.md").partition("## Shape letters")[2].partition("\n## ")[0]
    named = [name for line in table.splitlines() if line.startswith("|")
             for name in re.findall(r"`(\w+)`", line.split("|")[3])]  # fmt: skip
    assert len(named) > 8
    fields = {field.name for field in dataclasses.fields(ModelConfig)}
    assert [name for name in named if name not in fields] == []


# Never seen by callers: always turned into another exception or a result.
_INTERNAL = {"Cancelled", "ClosedPipe", "FileChanged", "KernelFault", "LimitExceeded"}


def _exceptions() -> set[str]:
    """Exception classes of all packages, by the names of their bases."""
    classes = [node for path in SOURCES for node in ast.parse(path.read_text("utf-8")).body
               if isinstance(node, ast.ClassDef)]  # fmt: skip
    found: set[str] = set()
    size = -1
    while size != len(found):
        size = len(found)
        found |= {node.name for node in classes for base in node.bases
                  if ast.unparse(base).endswith(("Error", "Exception")) or ast.unparse(base) in found}  # noqa: E501  # fmt: skip
    return found


def _entries() -> dict[str, str]:
    parts = re.split(r"^### (\w+)\n", _text("errors.md").partition("\n## ")[0], flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_exception_has_an_entry() -> None:
    public = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert public <= _exceptions()
    assert set(_entries()) == _exceptions() - _INTERNAL


def test_entries_name_the_python_exception() -> None:
    for name, entry in _entries().items():
        kind = getattr(errors, name, SamplingError if name == "SamplingError" else None)
        named = re.match(r"\s*An? `(\w+)`\.", entry)
        if kind is not None and named:
            assert named[1] in {base.__name__ for base in kind.__mro__}, name
    assert len(re.findall(r"^An? `\w+`\.", _text("errors.md"), re.M)) == 13


def _damaged(folder: Path) -> None:
    path = folder / "page.gguf"
    path.write_text("<html>" + "x" * 100)
    jitllm.load(path)


def _file(folder: Path, metadata: dict[str, Any]) -> None:
    path = write_gguf(
        folder / "made.gguf", metadata, {"token_embd.weight": np.zeros((4, 32), "f4")}
    )
    jitllm.load(path)


def _unknown_architecture(folder: Path) -> None:
    sizes = {"block_count": 1, "attention.head_count": 1, "embedding_length": 32,
             "context_length": 32, "feed_forward_length": 32,
             "attention.layer_norm_rms_epsilon": 1e-5}  # fmt: skip
    metadata = {f"nosuch.{key}": value for key, value in sizes.items()}
    _file(folder, {"general.architecture": "nosuch", **metadata})


def _integer_weights(folder: Path) -> None:
    import gguf

    reader = gguf.GGUFReader(conformance_model("llama-dense", folder / "made.gguf"))
    keys = ("context_length", "embedding_length", "feed_forward_length", "block_count",
            "attention.head_count", "attention.layer_norm_rms_epsilon")  # fmt: skip
    metadata = {f"llama.{key}": reader.fields[f"llama.{key}"].contents() for key in keys}
    tensors = {tensor.name: np.array(tensor.data) for tensor in reader.tensors}
    tensors["token_embd.weight"] = tensors["token_embd.weight"].astype(np.int8)
    jitllm.load(write_gguf(folder / "int.gguf", metadata, tensors))


def _no_tokenizer(folder: Path) -> None:
    with jitllm.load(
        conformance_model("llama-dense", folder / "made.gguf"), device="reference"
    ) as m:
        m.generate("text")


def _no_state(folder: Path) -> None:
    path = folder / "ctx.state"
    path.write_bytes(b"GGUF" + bytes(60))
    StateFile(path)


def _with_model(action: Callable[[jitllm.Model], Any]) -> Callable[[Path], Any]:
    def run(_: Path) -> None:
        with jitllm.load(model_path("stories260K"), device="reference") as model:
            action(model)

    return run


def _close_and_use(model: jitllm.Model) -> None:
    model.close()
    model.forward([1])


TRIGGERS: dict[str, Callable[[Path], Any]] = {
    "ModelNotFoundError": lambda folder: jitllm.load(folder / "none.gguf"),
    "ModelFormatError": lambda folder: _file(folder, {}),
    "GGUFError": _damaged,
    "UnsupportedArchitecture": _unknown_architecture,
    "UnsupportedFormat": _integer_weights,
    "UnsupportedTokenizer": _no_tokenizer,
    "ContextLengthExceeded": _with_model(lambda m: m.forward([1] * (m.n_ctx + 1))),
    "HookError": _with_model(lambda m: m.run_with_cache([1], "blocks.0.hook_resid_pst")),
    "ChatTemplateError": _with_model(lambda m: m.chat([{"role": "user", "content": "Hi"}])),
    "SamplingError": _with_model(lambda m: m.generate([1], temprature=1)),
    "StateError": _no_state,
    "ClosedError": _with_model(_close_and_use),
    "BackendError": lambda _: jitllm.load(model_path("stories260K"), device="abacus"),
    "BackendUnavailable": lambda _: backends.open_backend("abacus"),
}  # fmt: skip


@pytest.mark.parametrize("name", TRIGGERS)
def test_errors_look_as_told(name: str, tmp_path: Path) -> None:
    kinds = {**vars(errors), "SamplingError": SamplingError,
             "BackendUnavailable": BackendUnavailable}  # fmt: skip
    with pytest.raises(kinds[name]) as caught:
        TRIGGERS[name](tmp_path)
    assert type(caught.value) is kinds[name]
    told = re.search(r"^looks like: `(.+)`$", _entries()[name], re.M)
    assert told is not None
    pattern = ".*".join(re.escape(part).replace(r"\ ", r"\s+") for part in told[1].split("..."))
    assert re.fullmatch(pattern, str(caught.value), re.S), str(caught.value)


def test_every_looks_like_is_tried() -> None:
    assert {n for n, entry in _entries().items() if "looks like:" in entry} == set(TRIGGERS)


# --- hooks -----------------------------------------------------------------------------------

VARIANTS = ("gemma3-windows", "qwen3", "llama-fused", "mistral3-temperature", "phi3-short",
            "llama-routed", "gpt2", "gptneox-parallel", "bloom",
            "mpt-positions-bounds-scales")  # fmt: skip


@pytest.fixture(scope="module")
def hooked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[jitllm.Model]]:
    """The story model first, then models with what it lacks."""
    folder = tmp_path_factory.mktemp("models")
    with contextlib.ExitStack() as stack:
        paths = [model_path("stories260K")]
        paths += [variant_model(name, folder / f"{name}.gguf") for name in VARIANTS]
        paths += [encoder_model("bert", folder / "bert.gguf")]
        yield [stack.enter_context(jitllm.load(p, device="reference")) for p in paths]


def _hook_rows() -> list[tuple[str, str, list[str], str]]:
    """Own name, shape, TransformerLens's names and shape: rows of both tables."""
    rows = []
    for line in _text("hooks.md").splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if re.match(r"\| `(blk|token_embd|position_embd|inp_|hidden|output)", line):
            names = re.findall(r"`([^`]+)`", cells[2] if len(cells) == 5 else cells[1])
            shapes = (cells[1], cells[3]) if len(cells) == 5 else ("", "")
            rows.append((cells[0].strip("`"), shapes[0], names, shapes[1]))
    return rows


def _in_layer(name: str, i: int = 1) -> str:
    """A TransformerLens name of the table, or an own name, for layer i."""
    if "{i}" in name:
        return name.format(i=i)
    return name if name in hook_names.TL_NAMES else f"blocks.{i}.{name}"


def _sizes(model: jitllm.Model) -> dict[str, int | str]:
    c = model.config
    return {"n": c.hidden_size, "H": c.num_attention_heads[1], "G": c.num_key_value_heads[1],
            "D": c.head_dim, "F": c.intermediate_size[1], "V": model.n_vocab}  # fmt: skip


def _shape(told: str, sizes: dict[str, Any]) -> str:
    axes = [axis.strip() for axis in told.strip("[]").split(",")]
    numbers = [str(np.prod([sizes[x] for x in axis.split("*")])) if axis not in "TOkeys" else axis
               for axis in axes]  # fmt: skip
    return f"[{', '.join(numbers)}]"


def test_hook_table_has_the_shapes_and_names_of_a_model(hooked: list[jitllm.Model]) -> None:
    model = hooked[0]
    table = {info.name: info.shape for info in model.hook_points()}
    points = hook_names.hook_points(model.engine.graph)
    for own, shape, names, tl_shape in _hook_rows():
        if not shape:
            continue
        own = _in_layer(own) if "{i}" in own else own
        if not own.endswith(".pattern"):  # its table shows words
            assert table[own] == _shape(shape, _sizes(model)), own
        for name in map(_in_layer, names):
            assert points[name].tap == own
            if not own.endswith(".pattern"):
                assert table[name] == _shape(tl_shape, _sizes(model)), name


def test_hook_tables_are_complete(hooked: list[jitllm.Model]) -> None:
    rows = _hook_rows()
    told = {own for own, *_ in rows}
    told_names = {name for _, _, names, _ in rows for name in names}
    known = {*hook_names.TL_NAMES, *hook_names.TL_LAYER_NAMES, *hook_names.TL_QUERY_NAMES,
             *hook_names.TL_KEY_NAMES, "attn.hook_pattern"}  # fmt: skip
    before = {"hook_resid_pre", "hook_in", "ln1.hook_in"}  # told in the text below the table
    assert told_names == known - before
    assert all(f"`{name}`" in _text("hooks.md") for name in before)
    values = set()
    for model in hooked:
        names = {name.replace("blk.1.", "blk.{i}.") for name in model.engine.graph.values()}
        values |= {name for name in names if not name.startswith("blk.") or "{i}" in name}
    steps = re.compile(r"blk\.\{i\}\.\w+\.\w+")
    assert values - {v for v in values if steps.fullmatch(v)} == told - {"blk.{i}.kqv_out.pattern"}


def test_names_of_some_models_mean_what_is_told(hooked: list[jitllm.Model]) -> None:
    rare = [(own, names) for own, shape, names, _ in _hook_rows() if not shape and names]
    assert len(rare) == 5
    for own, names in rare:
        own = own.format(i=1)
        graph = next(m.engine.graph for m in hooked if own in m.engine.graph.values())
        for name in map(_in_layer, names):
            assert hook_names.hook_points(graph)[name].tap == own, name


def _recipes() -> list[tuple[int, str]]:
    text = _text("hooks.md")
    found = re.finditer(r"^<!-- run -->\n```python\n(?P<code>.*?)^```$", text, re.S | re.M)
    return [(text.count("\n", 0, m.start("code")), m["code"]) for m in found]


@pytest.fixture(scope="module", params=["cpu", "reference"])
def recipes(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """What the recipes leave behind, run on the story model."""
    with jitllm.load(model_path("stories260K"), device=request.param, progress=False) as model:
        namespace: dict[str, Any] = {"model": model}
        for line, code in _recipes():
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile("\n" * line + code, "hooks.md", "exec"), namespace)
        yield namespace


def test_there_are_three_recipes() -> None:
    assert len(_recipes()) == _text("hooks.md").count("\n### ") == 3


def test_logit_lens(recipes: dict[str, Any]) -> None:
    lens, logits = recipes["lens"], recipes["logits"]
    assert lens.shape == (recipes["model"].config.num_hidden_layers, logits.shape[1])
    if recipes["model"].device == "cpu":
        assert np.array_equal(lens[-1], logits[-1])
    assert np.allclose(lens[-1], logits[-1], atol=1e-4)
    assert not np.allclose(lens[0], logits[-1], atol=1)
    assert len(recipes["guesses"]) == len(lens)


def test_activation_patching(recipes: dict[str, Any]) -> None:
    moved, same = recipes["moved"], np.equal(recipes["target"], recipes["source"])
    # before the tokens differ nothing moves; behind the last layer only the last token counts
    first = int(np.argmin(same))
    assert np.allclose(moved[:, :first], 0, atol=1e-6)
    assert np.allclose(moved[-1, :-1], 0, atol=1e-6)
    assert moved[-1, -1] == pytest.approx(1, abs=1e-5)
    assert 0.5 < moved[0, first:].max() <= 1.5


def test_steering(recipes: dict[str, Any]) -> None:
    model, texts, point = recipes["model"], recipes["texts"], recipes["point"]
    plain = model.generate(recipes["prompt"], max_tokens=16, temperature=0).text
    assert texts[0] == plain
    assert len(set(texts.values())) == 3
    before = model.run_with_cache("The film", point)[1][point]
    with recipes["steering"](-0.5):
        after = model.run_with_cache("The film", point)[1][point]
    assert np.allclose(after - before, -0.5 * recipes["direction"], atol=1e-5)
