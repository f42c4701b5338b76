"""A file that one writer at a time may change, among all processes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: writers must be kept apart by the caller
    fcntl = None  # type: ignore[assignment]

_MODE = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_WRITING = os.O_RDWR | os.O_CREAT | _MODE


@contextmanager
def locked(path: Path, *, to_write: bool = True) -> Iterator[int]:
    """Open a file and keep writers waiting until it is closed.

    Parameters
    ----------
    path : Path
    to_write : bool
        Make it if it is not there, and keep readers waiting too.

    Yields
    ------
    int
        Its descriptor. The file may have been changed or replaced while this waited: compare
        `stamp`.
    """
    file = os.open(path, _WRITING if to_write else os.O_RDONLY | _MODE, 0o666)
    try:
        if fcntl is not None:
            with suppress(OSError):  # file systems without locks
                fcntl.flock(file, fcntl.LOCK_EX if to_write else fcntl.LOCK_SH)
        yield file
    finally:
        os.close(file)  # which unlocks it


def stamp(file: int | Path) -> tuple[int, int, int]:
    """Return device, number and size of a file; zeros if it is not there."""
    try:
        found = os.stat(file)
    except FileNotFoundError:
        return 0, 0, 0
    return found.st_dev, found.st_ino, found.st_size


def sync_folder(path: Path) -> None:
    """Wait until the disk knows the names in the folder of a file, where systems can."""
    with suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
