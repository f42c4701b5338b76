"""From folders of Hugging Face models to GGUF: one file for each `model_type` of config.json.

A file has `ARCHITECTURE`, the `general.architecture` it makes; `CLASSES`, the classes of models, as
they stand in config.json under `architectures`, that it can convert; `DEFAULTS`, what values of
config.json are where they are absent; and `convert(source, target)`. A new kind of model is a new
file here, "-" in its name being "_" in the file's.
"""

import importlib
from pathlib import Path
from types import ModuleType

from jitllm.llm.errors import UnsupportedArchitecture

_NOT_MODELS = {"__init__", "api"}


def names() -> list[str]:
    """Return all kinds of models that can be converted."""
    stems = {path.stem for path in Path(__file__).parent.glob("*.py")} - _NOT_MODELS
    return sorted(stem for stem in stems if not stem.startswith("_"))


def get(model_type: str) -> ModuleType:
    """Return the module that converts models of a kind.

    Raises
    ------
    UnsupportedArchitecture
        If there is none; the message lists what there is.
    """
    stem = model_type.replace("-", "_")
    if stem not in names():
        raise UnsupportedArchitecture(
            f"expected model_type in config.json among {', '.join(names())}; got {model_type!r}"
        )
    return importlib.import_module(f"{__name__}.{stem}")
