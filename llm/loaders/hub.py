"""Models in Hugging Face repositories, kept in that library's own cache only."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jitllm.llm.errors import ModelNotFoundError
from jitllm.llm.loaders.splits import group_splits, parse_split

DEFAULT_QUANT = "Q4_K_M"


def fetch_hub_model(
    repo: str, quant: str | None, file: str | None, *, progress: bool = True
) -> Path:
    """Path of a model of a repository, fetched whole if it is not in the cache.

    A model that is asked for by `quant` or `file` and is in the cache is taken from there without
    any network, so a repository that changed later is not noticed.

    Parameters
    ----------
    repo : str
        `owner/name`.
    quant : str or None
        Part of the file's name, such as `Q4_K_M`; upper and lower case are the same.
    file : str or None
        A file of the repository. Without it and `quant`: the only model, or its Q4_K_M.
    progress : bool
        Show progress bars on stderr while fetching.

    Returns
    -------
    Path
        The file, or the first one of a split model.

    Raises
    ------
    ModelNotFoundError
        If there is no such model, more than one, or no network; the message lists what is there.
    """
    from huggingface_hub import constants

    snapshot, cached = _cached_names(repo, Path(constants.HF_HUB_CACHE))
    whole = {first: files for first, files in group_splits(cached).items() if {*files} <= {*cached}}
    matches = _matches(whole, quant, file)
    if constants.HF_HUB_OFFLINE or ((quant or file) and len(matches) == 1):
        where = f"the local cache of {repo} (HF_HUB_OFFLINE is set)"
        return snapshot / _only(matches, whole, where, quant or file)
    models = group_splits(_remote_names(repo, cached))
    first = _only(_matches(models, quant, file), models, f"the repository {repo}", quant or file)
    paths = [_download(repo, name, progress) for name in models[first]]
    return paths[0]


def _cached_names(repo: str, cache: Path) -> tuple[Path, list[str]]:
    """The cached snapshot of the main branch, and the names of the model files in it."""
    folder = cache / f"models--{repo.replace('/', '--')}"
    try:
        commit = (folder / "refs" / "main").read_text("utf-8").strip()
    except FileNotFoundError:
        return folder, []
    snapshot = folder / "snapshots" / commit
    files = (p for p in snapshot.rglob("*.gguf") if p.is_file())
    return snapshot, sorted(p.relative_to(snapshot).as_posix() for p in files)


def _matches(models: dict[str, list[str]], quant: str | None, file: str | None) -> list[str]:
    """First files of the models that fit what was asked for."""
    if file:
        return [first for first, files in models.items() if file in files]
    if quant:
        return [first for first in models if _has_quant(first, quant)]
    if len(models) == 1:
        return list(models)
    return [first for first in models if _has_quant(first, DEFAULT_QUANT)]


def _has_quant(name: str, quant: str) -> bool:
    """Whether `quant` is a whole part of `name`: Q4_K is no part of Q4_K_M, nor Q4_0 of IQ4_0."""
    split = parse_split(name)
    stem = split.prefix if split else name.removesuffix(".gguf")
    pattern = rf"(?:^|[-._/]){re.escape(quant)}(?:$|[-./])"
    return re.search(pattern, stem, re.IGNORECASE) is not None


def _only(matches: list[str], models: dict[str, list[str]], where: str, asked: str | None) -> str:
    if len(matches) == 1:
        return matches[0]
    wanted = repr(asked) if asked else f"one model, or one named {DEFAULT_QUANT},"
    got = f"{len(matches)} that fit" if matches else "none"
    there = ", ".join(models) or "no model"
    raise ModelNotFoundError(
        f"expected {wanted} in {where}, got {got}; there is: {there}. "
        "Name one as owner/name:QUANT or owner/name/file.gguf"
    )


def _remote_names(repo: str, cached: list[str]) -> list[str]:
    from huggingface_hub import HfApi, constants

    timeout = constants.HF_HUB_ETAG_TIMEOUT
    try:  # one request, not repeated: without a network the answer comes soon
        found = HfApi().model_info(repo, timeout=timeout)
        return sorted(sibling.rfilename for sibling in found.siblings or ())
    except Exception as error:  # the library's versions raise those of different HTTP libraries
        there = ", ".join(cached) or "no model"
        raise ModelNotFoundError(
            f"expected to list the repository {repo}, got {type(error).__name__}: {error}. "
            "Check the name and the network, log in if it is private, or give the path of a "
            f".gguf file; in the local cache of it there is: {there}"
        ) from error


def _download(repo: str, name: str, progress: bool) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        with _bars(progress):
            return Path(hf_hub_download(repo, name))
    except Exception as error:  # as above
        raise ModelNotFoundError(
            f"expected to fetch {name} of {repo}, got {type(error).__name__}: {error}. "
            "Try again: what was fetched so far is kept"
        ) from error


@contextmanager
def _bars(progress: bool) -> Iterator[None]:
    from huggingface_hub import utils

    if progress or utils.are_progress_bars_disabled():
        yield
        return
    utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.enable_progress_bars()
