"""Rope in sections: pairs of columns that turn by a time, a height or a width.

Text has one position for these three, and 0 for a fourth, by which the other pairs turn: not at
all. Source: Wang et al., "Qwen2-VL", 2024.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from jitllm.llm.config import ModelConfig
from jitllm.llm.errors import ModelFormatError
from jitllm.llm.graph.rope import Rotation


def sections_of(config: ModelConfig) -> tuple[int, ...]:
    """Return how many pairs time, height, width and the fourth axis have; zeros if unsaid."""
    sections = config.metadata.per_layer("rope.dimension_sections", int, 4, 0)
    if min(sections) < 0:
        raise ModelFormatError(
            f"key '{config.architecture}.rope.dimension_sections': expected no negative number, "
            f"got {sections}"
        )
    return sections


def consecutive(rotation: Rotation, sections: tuple[int, ...]) -> Rotation:
    """Return the rotation for text of sections that follow each other."""
    return _turning(rotation, _pairs(rotation, sections) < sum(sections[:3]))


def interleaved(rotation: Rotation, sections: tuple[int, ...]) -> Rotation:
    """Return the rotation for text of pairs that belong to time, height and width in turns."""
    pairs = _pairs(rotation, sections)
    turns = np.zeros(len(pairs), bool)
    for axis, n in enumerate(sections[:3]):
        turns |= (pairs % 3 == axis) & (pairs < 3 * n)
    return _turning(rotation, turns)


def _pairs(rotation: Rotation, sections: tuple[int, ...]) -> npt.NDArray[np.int64]:
    return np.arange(len(rotation.frequencies)) % max(1, sum(sections))


def _turning(rotation: Rotation, turns: npt.NDArray[np.bool_]) -> Rotation:
    frequencies = np.where(turns, rotation.frequencies, np.float32(0))
    return replace(rotation, frequencies=frequencies)
