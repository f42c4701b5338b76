"""Compiled code on disk: named by all that decides what it is, checked when read."""

import contextlib
import hashlib
import importlib.util
import logging
import re
import secrets
import shutil
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import llvmlite

log = logging.getLogger("jitllm.kernels")

KEPT_VERSIONS = 4  # folders, or files, of the same thing that are kept, this version's included
_DIGEST_BYTES = 32
_FOLDER = Path(__file__).parent
_BY_FILE = [_FOLDER / name for name in ("cpu", "cuda", "gpu")]  # imported by file, not whole
_IMPORT = re.compile(r"^ *from (jitllm\.kernels[\w.]*) import (\([^)]*\)|.*)", re.M)


def source_hash(paths: Iterable[Path], *others: str) -> str:
    """Return a hash of source files, the compiler's versions and other words; imports nothing."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.name.encode() + _file_digest(path))
    numba = importlib.util.find_spec("numba")
    if numba and numba.origin:
        digest.update(Path(numba.origin).with_name("_version.py").read_bytes())
    digest.update(" ".join([llvmlite.__version__, *others]).encode())
    return digest.hexdigest()[:16]


@cache
def _file_digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


def sources_of(*paths: Path, known: frozenset[Path] = frozenset()) -> frozenset[Path]:
    """Return files and all of this package that they import, however far away.

    `known` is a former result, which the new one has too.
    """
    found, todo = set(known), list(paths)
    while todo:
        if (path := todo.pop()) not in found:
            found.add(path)
            todo += _imported(path)
    return frozenset(found)


@cache
def _imported(path: Path) -> frozenset[Path]:
    """Return the files of `jitllm.kernels` that a file imports; of a package, all."""
    found, text = set[Path](), path.read_text("utf-8") if path.suffix == ".py" else ""
    for module, names in _IMPORT.findall(text):
        at = _FOLDER.joinpath(*module.split(".")[2:])
        for place in [at, *(at / name for name in re.findall(r"\w+", names))]:
            if (file := place.with_suffix(".py")).is_file():
                found.add(file)
            elif place != _FOLDER and place not in _BY_FILE and place.is_dir():
                found.update(file for file in place.iterdir() if file.is_file())
    return frozenset(found)


def read(path: Path) -> bytes | None:
    """Return a code file without its checksum, or None if it is missing or damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    code, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if hashlib.sha256(code).digest() == digest:
        return code
    log.warning("kernel file %s is damaged and will be made again", path)
    return None


def store(path: Path, code: bytes) -> None:
    """Write atomically: another process may be compiling the same kernel.

    The first file of a folder that is called `<target>-<hash>` ends that target's oldest ones.
    """
    partial = path.with_name(f"{path.name}.{secrets.token_hex(8)}.partial")
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            prune(path.parent)
        partial.write_bytes(code + hashlib.sha256(code).digest())
        partial.replace(path)
    except OSError as error:
        log.warning("kernel %s is not kept: %s", path.name, error)
        with contextlib.suppress(OSError):
            partial.unlink()


def prune(current: Path) -> None:
    """Delete the oldest of what is called as this, but for the hash behind the last hyphen."""
    name = current.name.rpartition("-")[0]
    others = [path for path in current.parent.glob(f"{name}-*") if path != current]
    others = [path for path in others if len(path.name) == len(current.name)]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in others[KEPT_VERSIONS - 1 :]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
