"""Kinds of tokenizers: the files `model_<tokenizer.ggml.model>.py` of this folder."""

import importlib
import pkgutil
from pathlib import Path

from jitllm.llm.errors import UnsupportedTokenizer
from jitllm.llm.tokenizer.base import BaseEncoder
from jitllm.llm.tokenizer.tokenizer import Tokenizer
from jitllm.llm.tokenizer.vocabulary import Metadata, Vocabulary

_PREFIX = "model_"
_NONE = ("", "no_vocab", "none")


def supported_kinds() -> list[str]:
    """The values of `tokenizer.ggml.model` that have a file."""
    folder = str(Path(__file__).parent)
    names = [module.name for module in pkgutil.iter_modules([folder])]
    return sorted(name.removeprefix(_PREFIX) for name in names if name.startswith(_PREFIX))


def build_tokenizer(metadata: Metadata) -> Tokenizer | None:
    """The tokenizer in a file's metadata, or None when the file has none.

    Raises
    ------
    UnsupportedTokenizer
        If the kind or the pre-tokenizer is not known; the message lists those that are.
    ModelFormatError
        If what the kind needs is missing or damaged.
    """
    kind = str(metadata.get("tokenizer.ggml.model", ""))
    if kind in _NONE:
        return None
    supported = supported_kinds()
    if kind not in supported:  # before the import: the name comes from the file
        raise UnsupportedTokenizer(
            f"tokenizer.ggml.model: expected one of {', '.join(supported)}; got {kind!r}. "
            f"A new kind is a file {_PREFIX}<name>.py in llm/tokenizer"
        )
    module = importlib.import_module(f"jitllm.llm.tokenizer.{_PREFIX}{kind}")
    encoder: BaseEncoder = module.Encoder(Vocabulary.from_metadata(metadata), metadata)
    return Tokenizer(kind, encoder, metadata)
