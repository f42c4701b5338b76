"""Older state files: each version's records are made into those of the next."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from jitllm.llm.errors import StateError

if TYPE_CHECKING:
    from jitllm.llm.state_files.log import Record

VERSION = 1
"""Of the records that are written."""

UPGRADES: "dict[int, Callable[[Record], Record]]" = {}
"""By version: what makes a record of it into one of the next version."""


def upgraded(record: "Record") -> "Record":
    """Return a record of the newest version with what an older one says.

    Raises
    ------
    StateError
        If it is of a version that nothing upgrades.
    """
    while record.version < VERSION:
        if record.version not in UPGRADES:
            raise StateError(
                f"expected a record of version {min(UPGRADES, default=VERSION)} to {VERSION}, got "
                f"version {record.version}"
            )
        record = UPGRADES[record.version](record)
    return record
