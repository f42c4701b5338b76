"""Where fetched models are kept, and how they are known to be whole."""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from jitllm.llm.errors import ModelFormatError


def store(chunks: Iterable[bytes], partial: Path, final: Path, pin: str | None) -> None:
    """Write a model under `final` once it is whole and its SHA-256 is what it should be.

    Parameters
    ----------
    chunks : iterable of bytes
    partial : Path
        Written first; on the same disk as `final`.
    final : Path
    pin : str or None
        The expected SHA-256. Without one, what was recorded at an earlier fetch is expected,
        if there was any.

    Raises
    ------
    ModelFormatError
        If the SHA-256 differs; nothing is then left under `final`.
    """
    digest = hashlib.sha256()
    with open(partial, "wb") as out:
        for chunk in chunks:
            digest.update(chunk)
            out.write(chunk)
        out.flush()
        os.fsync(out.fileno())
    _compare(final, digest.hexdigest(), pin)
    _record(final, partial, digest.hexdigest())
    os.replace(partial, final)


def verify(path: Path, pin: str | None) -> None:
    """Check that a stored file is the one that was fetched.

    Its SHA-256 is computed only if its size or time changed since it was last checked.

    Raises
    ------
    ModelFormatError
        If the SHA-256 differs from `pin`, or from the recorded one.
    """
    record = _read_record(path)
    expected = pin or record.get("sha256")
    status = path.stat()
    known = {"sha256": expected, "size": status.st_size, "mtime_ns": status.st_mtime_ns}
    if expected and record == known:
        return
    with open(path, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    _compare(path, sha256, pin)
    _record(path, path, sha256)


def _compare(path: Path, sha256: str, pin: str | None) -> None:
    expected = pin or _read_record(path).get("sha256")
    if expected and sha256 != expected:
        raise ModelFormatError(
            f"{path}: expected SHA-256 {expected}, got {sha256}; if you trust the new file, "
            f"delete the folder {path.parent} and try again"
        )


def _record_path(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _read_record(path: Path) -> dict[str, object]:
    try:
        record = json.loads(_record_path(path).read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ModelFormatError(
            f"{_record_path(path)}: expected JSON, got {error}; delete the folder {path.parent}"
        ) from error
    return record if isinstance(record, dict) else {}


def _record(path: Path, file: Path, sha256: str) -> None:
    status = file.stat()
    record = {"sha256": sha256, "size": status.st_size, "mtime_ns": status.st_mtime_ns}
    partial = file.with_name(f"{file.name}.json.{os.getpid()}.partial")
    partial.write_text(json.dumps(record) + "\n", "utf-8")
    os.replace(partial, _record_path(path))
