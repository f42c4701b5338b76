"""Whether what is about to be written is a model: its graph is built, without reading weights."""

import struct
from pathlib import Path
from typing import NamedTuple

from jitllm.llm import models
from jitllm.llm.config import ModelConfig
from jitllm.llm.convert._target import Target
from jitllm.llm.errors import ModelFormatError
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.loaders.gguf_header import TensorInfo, Value, read_header


class _File(NamedTuple):
    """The part of a `GGUFFile` that a configuration is read from."""

    metadata: dict[str, Value]
    tensors: dict[str, TensorInfo]


def check(made: Target, source: Path) -> None:
    """Refuse a file that could not be loaded: sizes and tensors have to fit together.

    Parameters
    ----------
    made : Target
    source : Path
        For messages.

    Raises
    ------
    ModelFormatError
        If they do not.
    """
    infos = {
        name: TensorInfo(name, weight.shape, 0, "F32", 0, 0, 0)
        for name, weight in made.tensors.items()
    }
    try:
        config = ModelConfig.from_file(_File(_decoded(made), infos))
        g = GraphBuilder(
            infos, lambda name: made.tensors[name].floats(), config.max_position_embeddings
        )
        models.get(config.architecture)(g, config)
        g.build()
    except ValueError as error:
        raise ModelFormatError(
            f"{source}: expected config.json, weights and tokenizer of one model, got ones that do "
            f"not fit together: {error}"
        ) from error


def _decoded(made: Target) -> dict[str, Value]:
    """Return the metadata as a reader of the file would."""
    pairs = ((name.encode(), value) for name, value in made.values.items())
    body = b"".join(struct.pack("<Q", len(name)) + name + value for name, value in pairs)
    front = b"GGUF" + struct.pack("<IQQ", 3, 0, len(made.values))
    return read_header(memoryview(front + body), made.architecture).metadata
