"""The repository keeps its own rules: layers, packages, docstrings, sizes, and what is not said."""

import ast
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from docstrings import documented_parameters

ROOT = Path(__file__).parent.parent
LAYERS = {"kernels": 0, "backends": 1, "llm": 2, "jitllm": 3}  # imports go down only
PACKAGE_FILE_LINES, TEST_FILE_LINES = 450, 700
FUNCTION_LINES, KERNEL_LINES = 70, 100

Function = ast.FunctionDef | ast.AsyncFunctionDef


def _package_files() -> list[Path]:
    return [path for top in LAYERS for path in sorted((ROOT / top).rglob("*.py"))
            if "jitllm" == top or top in path.parts]  # fmt: skip


PACKAGE_FILES = sorted({path.resolve() for path in _package_files()})
PYTHON_FILES = PACKAGE_FILES + sorted(
    path for folder in ("tests", "bench", "examples") for path in (ROOT / folder).rglob("*.py")
)


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in (("jitllm", *parts) if parts[0] != "jitllm" else parts)
                    if part != "__init__")  # fmt: skip


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything a file imports from jitllm."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            dots, module = "." * node.level, node.module or ""
            yield from ((node.lineno, f"{dots}{module}.{alias.name}") for alias in node.names)


def _layer(module: str) -> int:
    """Layer of a module of jitllm: that of the folder under it, or the front door's."""
    return LAYERS.get((module.split(".") + [""])[1], LAYERS["jitllm"])


def _upward(path: Path) -> list[str]:
    own = _layer(_module(path))
    return [
        f"{_name(path)}:{line} imports {name}"
        for line, name in _imports(path)
        if name.split(".")[0] == "jitllm" and _layer(name) > own
    ]


def test_imports_go_down_only() -> None:
    assert [problem for path in PACKAGE_FILES for problem in _upward(path)] == []


def test_a_layer_is_read_from_the_module_name() -> None:
    names = ("jitllm.kernels.jit", "jitllm.backends.base", "jitllm.llm", "jitllm.load", "jitllm")
    assert [_layer(name) for name in names] == [0, 1, 2, 3, 3]


def test_imports_are_absolute() -> None:
    relative = [f"{_name(path)}:{line}" for path in PYTHON_FILES
                for line, name in _imports(path) if name.startswith(".")]  # fmt: skip
    assert not relative, "\n".join(relative)


def test_package_list_is_complete() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    there = {_module(path) for path in PACKAGE_FILES if path.name == "__init__.py"}
    assert sorted(project["tool"]["setuptools"]["packages"]) == sorted(there)


@pytest.mark.parametrize("folder", [name for name in LAYERS if name != "jitllm"])
def test_folder_refuses_its_short_name(folder: str) -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {folder}"
    run = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert f"imported as jitllm.{folder}" in run.stderr


def test_library_does_not_print() -> None:
    calls = [
        f"{_name(path)}:{node.lineno}"
        for path in PACKAGE_FILES
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("print", "pprint")
    ]
    assert not calls, "\n".join(calls)


def test_files_are_short() -> None:
    limits = {path: PACKAGE_FILE_LINES for path in PACKAGE_FILES}
    long = [
        f"{_name(path)}: {lines}"
        for path in PYTHON_FILES
        if (lines := path.read_text("utf-8").count("\n")) > limits.get(path, TEST_FILE_LINES)
    ]
    assert not long, "\n".join(long)


def _functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def test_functions_are_short() -> None:
    long = []
    for path in PYTHON_FILES:
        is_kernel = _name(path).startswith(("kernels/cpu/", "kernels/cuda/"))
        limit = KERNEL_LINES if is_kernel else FUNCTION_LINES
        for function in _functions(_tree(path)):
            lines = (function.end_lineno or 0) - function.lineno + 1
            if lines > limit:
                long.append(f"{_name(path)}:{function.lineno} {function.name}: {lines}")
    assert not long, "\n".join(long)


def _public(
    body: list[ast.stmt], prefix: str = ""
) -> Iterator[tuple[str, Function | ast.ClassDef]]:
    """Public functions, classes and methods, by name."""
    for node in body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from _public(node.body, f"{prefix}{node.name}.")


def _is_trivial(node: Function | ast.ClassDef) -> bool:
    """Whether a name needs no docstring: an overload, or a method that a base class documents."""
    marks = {ast.unparse(decorator).split(".")[-1] for decorator in node.decorator_list}
    return bool(marks & {"overload", "override", "setter"})


def _inherits(tree: ast.Module, name: str) -> bool:
    owner = name.rpartition(".")[0]
    return any(isinstance(node, ast.ClassDef) and node.name == owner and bool(node.bases)
               for node in tree.body)  # fmt: skip


def test_public_names_have_docstrings() -> None:
    missing = [
        f"{_name(path)}:{node.lineno} {name}"
        for path in PACKAGE_FILES
        for name, node in _public(_tree(path).body)
        if not ast.get_docstring(node)
        and not _is_trivial(node)
        and not _inherits(_tree(path), name)
    ]
    missing += [_name(path) for path in PYTHON_FILES if not ast.get_docstring(_tree(path))]
    assert not missing, "\n".join(missing)


def _signature(node: Function | ast.ClassDef) -> tuple[set[str], set[str]] | None:
    """Names of parameters, and of collectors of others; None for a class without `__init__`."""
    if isinstance(node, ast.ClassDef):
        init = next(
            (f for f in node.body if isinstance(f, Function) and f.name == "__init__"), None
        )
        return _signature(init) if init else None
    spec = node.args
    names = {arg.arg for arg in (*spec.posonlyargs, *spec.args, *spec.kwonlyargs)}
    return names - {"self", "cls"}, {arg.arg for arg in (spec.vararg, spec.kwarg) if arg}


def test_docstrings_name_the_parameters() -> None:
    wrong = []
    for path in PACKAGE_FILES:
        for name, node in _public(_tree(path).body):
            documented = documented_parameters(ast.get_docstring(node) or "")
            signature = _signature(node)
            if documented is None or signature is None:
                continue
            named, collectors = signature
            missing, unknown = named - {*documented}, {*documented} - named
            if missing or (unknown and not collectors):
                what = f"missing {sorted(missing)}, unknown {sorted(unknown)}"
                wrong.append(f"{_name(path)}:{node.lineno} {name}: {what}")
    assert not wrong, "\n".join(wrong)


# The folders and hosts stand here in a form that the expression does not find.
_PACKED = (
    ".py", ".json", ".npz", ".typed", ".spv", ".comp", ".glsl", ".metal", ".c", ".h", ".txt"
)  # fmt: skip
_FORBIDDEN = re.compile(
    r"(?<![\w.])/(?:work|opt|root|home|tmp|Users)/\w"
    r"|\b(?:pypi\.org|pythonhosted\.org|huggingface\.co|npmjs\.(?:com|org))\b"
)


def _tracked() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    return [ROOT / name for name in listing.stdout.decode().split("\0") if name]


def test_no_file_names_one_machine_or_a_registry() -> None:
    found = []
    for path in _tracked():
        if not path.is_file() or path.is_symlink() or b"\0" in (data := path.read_bytes())[:4096]:
            continue
        for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
            if match := _FORBIDDEN.search(line):
                found.append(f"{_name(path)}:{number} {match[0]}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize("parts", [("see ", "opt", "x"), ("'", "work", "main'")])
def test_the_search_finds_paths_of_a_machine(parts: tuple[str, ...]) -> None:
    assert _FORBIDDEN.search("/".join(parts))
    assert not _FORBIDDEN.search("/".join(("..", *parts[1:])))


@pytest.mark.parametrize("host", [("files", "pythonhosted", "org"), ("huggingface", "co")])
def test_the_search_finds_registries(host: tuple[str, ...]) -> None:
    assert _FORBIDDEN.search(".".join(host))


@pytest.mark.slow
def test_wheel_holds_every_file(tmp_path: Path) -> None:
    source = tmp_path / "source"  # a copy: building leaves folders behind
    subprocess.run(["git", "clone", "-q", str(ROOT), str(source)], check=True)
    subprocess.run([sys.executable, "-P", "-m", "pip", "wheel", "-q", "--no-deps", "-w",
                    str(tmp_path), str(source)], check=True)  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("jitllm/")}
    built = {name for name in packed if name.startswith("jitllm/backends/_jit_")}
    tracked = {_name(path) for path in _tracked() if path.suffix in _PACKED}
    expected = {name if name.startswith("jitllm/") else f"jitllm/{name}"
                for name in tracked if name.split("/")[0] in LAYERS}  # fmt: skip
    assert packed - built == expected
    compiler = sysconfig.get_config_var("CC").split()[0]
    assert len(built) == 2 * bool(shutil.which(compiler))
