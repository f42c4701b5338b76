"""Compiled code on disk: named by all that decides what it is, checked when read."""

import contextlib
import hashlib
import importlib.util
import logging
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path

import llvmlite

log = logging.getLogger("jitllm.kernels")

KEPT_VERSIONS = 4  # folders of code files kept for each target, this version's included
_DIGEST_BYTES = 32


def source_hash(paths: Iterable[Path], *others: str) -> str:
    """Return a hash of source files, the compiler's versions and other words; imports nothing."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.name.encode() + path.read_bytes())
    numba = importlib.util.find_spec("numba")
    if numba and numba.origin:
        digest.update(Path(numba.origin).with_name("_version.py").read_bytes())
    digest.update(" ".join([llvmlite.__version__, *others]).encode())
    return digest.hexdigest()[:16]


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

    The first file of a folder, whose name is `<target>-<hash>`, ends the oldest ones of its target.
    """
    partial = path.with_name(f"{path.name}.{secrets.token_hex(8)}.partial")
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            _prune(path.parent)
        partial.write_bytes(code + hashlib.sha256(code).digest())
        partial.replace(path)
    except OSError as error:
        log.warning("kernel %s is not kept: %s", path.name, error)
        with contextlib.suppress(OSError):
            partial.unlink()


def _prune(current: Path) -> None:
    """Delete the folders of this target's old source versions, all but the newest few."""
    target = current.name.rpartition("-")[0]
    others = [path for path in current.parent.glob(f"{target}-*") if path != current]
    others = [path for path in others if len(path.name) == len(current.name)]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in others[KEPT_VERSIONS - 1 :]:
        shutil.rmtree(path, ignore_errors=True)
