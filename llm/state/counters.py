"""How often states were saved, restored, rolled back, or refused: for a service to watch."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_counts: Counter[str] = Counter()


@contextmanager
def counted(event: str) -> Iterator[None]:
    """Count an event when the block ends, or its failure when it raises."""
    try:
        yield
    except BaseException:
        count(f"{event} failed")
        raise
    count(event)


def count(event: str) -> None:
    """Count an event."""
    with _lock:
        _counts[event] += 1


def state_counters() -> dict[str, int]:
    """Return how often each event happened in this process.

    Events are "save", "restore", "checkpoint", "rollback", "remove" and "prune"; one that raised
    counts under its name and " failed".
    """
    with _lock:
        return dict(_counts)
