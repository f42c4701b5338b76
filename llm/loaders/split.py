"""Cut a model file into several, and make one of several again."""

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from jitllm.llm.errors import GGUFError
from jitllm.llm.loaders.gguf import GGUFFile, TensorInfo
from jitllm.llm.loaders.gguf_copy import alignment_of, check_targets, copied, metadata_of
from jitllm.llm.loaders.gguf_writer import NewTensor, scalar, write_gguf
from jitllm.llm.loaders.splits import split_names
from jitllm.llm.progress import ProgressBar

MAX_TENSORS = 128
"""Tensors of a part where nothing else is asked for, as in `llama-gguf-split`."""

_MAX_PARTS = 65535  # the number of parts is a uint16 in the files
_UNITS = {"K": 10**3, "M": 10**6, "G": 10**9}


class Part(NamedTuple):
    """One file of a split model.

    Attributes
    ----------
    path : Path
    tensors : tuple of TensorInfo
    nbytes : int
        Of the tensors' data, padding included; metadata comes on top.
    """

    path: Path
    tensors: tuple[TensorInfo, ...]
    nbytes: int


class _Limits(NamedTuple):
    max_tensors: float
    max_bytes: float


def parse_size(text: str) -> int:
    """Return the bytes that a size means: "300M" is 300,000,000, "2G" 2,000,000,000.

    Raises
    ------
    ValueError
        If it is no positive number of K, M or G.
    """
    number, unit = text[:-1], text[-1:].upper()
    if unit not in _UNITS or not number.isascii() or not number.isdigit() or not int(number):
        raise ValueError(f"expected a size such as 500M or 2G, got {text!r}")
    return int(number) * _UNITS[unit]


def split(
    source: str | os.PathLike[str],
    prefix: str | os.PathLike[str],
    *,
    max_tensors: int | None = None,
    max_size: int | str | None = None,
    no_tensor_first: bool = False,
    dry_run: bool = False,
    progress: bool = False,
) -> tuple[Part, ...]:
    """Cut a model into the files `<prefix>-00001-of-0000N.gguf` and so on.

    The first has all metadata. They get their names when all are complete; an error or an interrupt
    leaves nothing behind.

    Parameters
    ----------
    source : path
        A model of one file, or the first file of one that is to be cut elsewhere.
    prefix : path
        Files of these names are replaced.
    max_tensors : int, optional
        Most tensors of a file; `MAX_TENSORS` without `max_size`.
    max_size : int or str, optional
        Most bytes of a file's tensors, or a text that `parse_size` reads. A larger tensor has a
        file of its own.
    no_tensor_first : bool
        Leave the first file without tensors.
    dry_run : bool
        Decide everything and write nothing.
    progress : bool
        Show a bar on stderr.

    Returns
    -------
    tuple of Part

    Raises
    ------
    GGUFError
        If the model is damaged.
    ModelNotFoundError
        If there is no such file.
    ValueError
        If a limit is not positive, the files would be too many, or one of them is the source.
    OSError
        If a file cannot be written.
    """
    limits = _limits(max_tensors, max_size)
    with GGUFFile(source) as file:
        alignment = alignment_of(file)
        groups: list[list[TensorInfo]] = [[]] if no_tensor_first else []
        groups += _groups([*file.tensors.values()], limits, alignment)
        parts = _parts(Path(prefix), groups or [[]], alignment)
        check_targets(file, (part.path for part in parts))
        if not dry_run:
            with ProgressBar(progress, "splitting", scale=True) as bar:
                _write(file, parts, alignment, bar)
    return parts


def merge(
    first: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    dry_run: bool = False,
    progress: bool = False,
) -> Part:
    """Make one file of a model in several.

    It appears when it is complete; an error or an interrupt leaves nothing behind. The parts stay.

    Parameters
    ----------
    first : path
        The first file; the others are found by its name.
    target : path
        Replaced if there is such a file.
    dry_run : bool
        Check the parts and write nothing.
    progress : bool
        Show a bar on stderr.

    Raises
    ------
    GGUFError
        If a file is damaged, the parts do not belong together, or there is only one.
    ModelNotFoundError
        If a file is missing.
    ValueError
        If the target is one of the parts.
    OSError
        If the file cannot be written.
    """
    with GGUFFile(first) as file:
        if "split.count" not in file.metadata:
            raise GGUFError(
                f"{file.paths[0]}: expected the first file of a model in several, got a whole "
                "model (no key 'split.count')"
            )
        alignment = alignment_of(file)
        part = _part(Path(target), file.tensors.values(), alignment)
        check_targets(file, [target])
        if not dry_run:
            with ProgressBar(progress, "merging", scale=True) as bar:
                report = partial(_report, bar, 0, part.nbytes)
                _write_part(file, part, metadata_of(file), alignment, report)
    return part


def _limits(max_tensors: int | None, max_size: int | str | None) -> _Limits:
    size = parse_size(max_size) if isinstance(max_size, str) else max_size
    if max_tensors is None and size is None:
        max_tensors = MAX_TENSORS
    limits = _Limits(
        math.inf if max_tensors is None else max_tensors, math.inf if size is None else size
    )
    if min(limits) < 1:
        raise ValueError(
            f"expected limits from 1 on, got max_tensors={max_tensors}, max_size={max_size}"
        )
    return limits


def _padded(info: TensorInfo, alignment: int) -> int:
    return -(-info.nbytes // alignment) * alignment


def _groups(infos: list[TensorInfo], limits: _Limits, alignment: int) -> list[list[TensorInfo]]:
    """Fill one file after the other, in the order of the tensors."""
    groups: list[list[TensorInfo]] = []
    nbytes = 0
    for info in infos:
        size = _padded(info, alignment)
        is_full = groups and (
            len(groups[-1]) >= limits.max_tensors or nbytes + size > limits.max_bytes
        )
        if is_full or not groups:
            groups.append([])
            nbytes = 0
        groups[-1].append(info)
        nbytes += size
    return groups


def _parts(prefix: Path, groups: Sequence[list[TensorInfo]], alignment: int) -> tuple[Part, ...]:
    if len(groups) > _MAX_PARTS:
        raise ValueError(
            f"expected at most {_MAX_PARTS} files, got {len(groups)}; allow more tensors or bytes "
            "in each"
        )
    names = split_names(prefix.name, len(groups))
    return tuple(
        _part(prefix.with_name(name), infos, alignment)
        for name, infos in zip(names, groups, strict=True)
    )


def _part(path: Path, infos: Iterable[TensorInfo], alignment: int) -> Part:
    kept = tuple(infos)
    return Part(path, kept, sum(_padded(info, alignment) for info in kept))


def _write(file: GGUFFile, parts: Sequence[Part], alignment: int, bar: ProgressBar) -> None:
    counts = {
        "split.count": scalar("uint16", len(parts)),
        "split.tensors.count": scalar("int32", len(file.tensors)),
    }
    all_values = metadata_of(file)
    few = {key: all_values[key] for key in ("general.alignment",) if key in all_values}
    done, total = 0, sum(part.nbytes for part in parts)
    folder = parts[0].path.parent
    with TemporaryDirectory(dir=folder, prefix=".partial-") as unfinished:
        for i, part in enumerate(parts):
            values = few if i else all_values
            values = values | {"split.no": scalar("uint16", i)} | counts
            whole = part._replace(path=Path(unfinished, part.path.name))
            _write_part(file, whole, values, alignment, partial(_report, bar, done, total))
            done += part.nbytes
        for part in reversed(parts):  # who finds the first file finds all
            os.replace(Path(unfinished, part.path.name), part.path)


def _report(bar: ProgressBar, before: int, total: int, done: int) -> None:
    bar.update(before + done, total)


def _write_part(
    file: GGUFFile,
    part: Part,
    values: Mapping[str, bytes],
    alignment: int,
    report: Callable[[int], None],
) -> None:
    tensors = [NewTensor(info.name, info.shape, info.type_name) for info in part.tensors]
    write_gguf(part.path, values, tensors, _data(file, part, report), alignment)


def _data(file: GGUFFile, part: Part, report: Callable[[int], None]) -> Iterator[Iterator[bytes]]:
    done = 0
    for info in part.tensors:
        yield _counted(copied(file, info.name), done, report)
        done += info.nbytes
        file.release(info.name)


def _counted(pieces: Iterator[bytes], done: int, report: Callable[[int], None]) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        done += len(piece)
        report(done)
