"""Keys about a model as a whole: where it comes from, and how it is best sampled.

They are found in the README's front matter, in config.json, and in the name of the folder, with
the rules of llama.cpp's converter.
"""

import logging
import re
from collections.abc import Mapping
from typing import Any

from jitllm.llm.convert._names import NameParts, parse_name
from jitllm.llm.convert._source import Source
from jitllm.llm.convert._target import Target
from jitllm.llm.errors import ModelFormatError

_log = logging.getLogger("jitllm.convert")

_SAMPLING = (
    ("string", "sequence", "sequence"), ("int32", "top_k", "top_k"),
    ("float32", "top_p", "top_p"), ("float32", "min_p", "min_p"),
    ("float32", "xtc_probability", "xtc_probability"),
    ("float32", "xtc_threshold", "xtc_threshold"), ("float32", "temp", "temperature"),
    ("int32", "penalty_last_n", "penalty_last_n"),
    ("float32", "penalty_repeat", "repetition_penalty"),
    ("float32", "penalty_repeat", "penalty_repeat"), ("int32", "mirostat", "mirostat"),
    ("float32", "mirostat_tau", "mirostat_tau"), ("float32", "mirostat_eta", "mirostat_eta"),
)  # fmt: skip
_CARD = {  # keys of GGUF, and those of model cards: the first that is there counts
    "name": ("name", "model_name"),
    "author": ("author", "model_author", "model_creator"),
    "version": ("version", "model_version"),
    "organization": ("organization", "model_organization"),
    "finetune": ("finetune", "model_finetune"),
    "basename": ("basename", "model_basename", "model_type"),
    "description": ("description", "model_description"),
    "size_label": ("size_label", "model_size_label"),
    "license": ("license",),
    "license.name": ("license_name",),
    "license.link": ("license_link",),
    "source.url": ("url", "model_url"),
    "source.doi": ("doi", "model_doi"),
    "source.uuid": ("uuid", "model_uuid"),
    "source.repo_url": ("repo_url", "model_repo_url"),
}
_NAMED = ("name", "organization", "basename", "finetune", "version", "size_label")
_ORIGIN = ("name", "author", "version", "organization", "description", "url", "doi", "uuid",
           "repo_url")  # fmt: skip


def write(source: Source, target: Target, name: str | None = None) -> None:
    """Put down the keys; needs the tensors, whose number of values is a part of some names.

    Parameters
    ----------
    source : Source
    target : Target
    name : str, optional
        Instead of the one that is found.

    Raises
    ------
    ModelFormatError
        If the README's front matter is no YAML.
    """
    total, shared, expert, n_experts = target.counts()
    target.key("string", "general.type", "model")
    settings = _sampling(source)
    for kind, key, setting in _SAMPLING:
        target.key(kind, f"general.sampling.{key}", settings.get(setting))
    card = read_card(source)
    found = {
        key: next((card[n] for n in names if card.get(n) is not None), None)
        for key, names in _CARD.items()
    }
    origin = source.json("config.json").get("_name_or_path")
    ids = [origin] if isinstance(origin, str) and origin.count("/") <= 1 else []
    for model_id in (*ids, source.folder.resolve().name):
        parts = parse_name(model_id, total)
        for key in _NAMED:
            if found[key] is None:
                found[key] = getattr(parts, key)
    found["name"] = name or found["name"]
    found["size_label"] = found["size_label"] or size_label(total, shared, expert, n_experts)
    for key, value in found.items():
        target.key("string", f"general.{key}", _text(value))
    bases = _listed(card, "base_model", "base_models", "base_model_sources")
    _origins(target, "base_model", bases, total)
    _origins(target, "dataset", _listed(card, "datasets", "dataset", "dataset_sources"), total)
    tags = [*(_listed(card, "tags") or []), *(_listed(card, "pipeline_tag") or [])]
    target.key("string", "general.tags", [str(tag) for tag in tags])
    languages = [*(_listed(card, "languages") or []), *(_listed(card, "language") or [])]
    target.key("string", "general.languages", [str(language) for language in languages])


def _sampling(source: Source) -> dict[str, Any]:
    try:
        return source.json("generation_config.json")
    except ModelFormatError as error:  # it happens, and the model works without
        _log.warning("left out: %s", error)
        return {}


def read_card(source: Source) -> dict[str, Any]:
    """Return the front matter of README.md, empty where there is none.

    Raises
    ------
    ModelFormatError
        If it is no YAML.
    """
    path = source.folder / "README.md"
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    if not lines or lines[0] != "---":
        return {}
    end = lines.index("---", 1) if "---" in lines[1:] else len(lines)
    text = "\n".join([*lines[1:end], ""])
    # YAML takes the Norwegian language for False; and cards have tabs, which YAML forbids
    text = text.replace("- no\n", '- "no"\n').replace("\t", "  ")
    import yaml

    try:
        card = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ModelFormatError(
            f"{path}: expected YAML between the first lines '---', got {error}; correct it, or "
            "take the file away"
        ) from None
    return card if isinstance(card, dict) else {}


def size_label(total: int, shared: int, expert: int, n_experts: int) -> str | None:
    """Return the number of parameters in short, such as "1.5B" or "8x7B"; None if there are none.

    Examples
    --------
    >>> size_label(1_500_000_000, 0, 0, 0), size_label(0, 1_600_000_000, 5_600_000_000, 8)
    ('1.5B', '8x7.2B')
    """
    if not total and not n_experts:
        return None
    if n_experts:
        return f"{n_experts}x{_short(shared + expert)}"
    return _short(total)


def _short(n: int) -> str:
    units = ((1e-12, "T"), (1e-9, "B"), (1e-6, "M"), (1e-3, "K"))
    share, suffix = next((unit for unit in units if n > 1 / unit[0]), units[-1])
    digits = max(2 - len(str(round(n * share)).lstrip("0")), 0)
    return f"{n * share:.{digits}f}{suffix}"


def _listed(card: Mapping[str, Any], *names: str) -> list[Any] | None:
    if not any(name in card for name in names):
        return None
    value = next(card[name] for name in names if name in card)
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _origins(target: Target, kind: str, entries: list[Any] | None, total: int) -> None:
    """Put down where a model comes from: base models, or texts."""
    if entries is None:
        return
    target.key("uint32", f"general.{kind}.count", len(entries))
    for i, entry in enumerate(entries):
        known = entry if isinstance(entry, Mapping) else _origin(str(entry), total)
        for key in _ORIGIN:
            target.key("string", f"general.{kind}.{i}.{key}", _text(known.get(key)))


def _origin(reference: str, total: int) -> dict[str, str | None]:
    """Return what an address or `owner/name` tells of a model."""
    from huggingface_hub.constants import ENDPOINT

    if reference.startswith(("http://", "https://", "ssh://")):
        host = re.escape(ENDPOINT.partition("://")[2])
        found = re.fullmatch(rf"https?://{host}/([^/]+/[^/]+)", reference)
        parts = parse_name(found[1], total) if found else NameParts()
        url: str | None = reference
    else:
        parts = parse_name(reference, total)
        url = f"{ENDPOINT}/{reference}" if "/" in reference and parts.organization else None
    return {
        "name": parts.name, "organization": parts.organization, "version": parts.version,
        "repo_url": url,
    }  # fmt: skip


def _text(value: Any) -> str | None:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return None if value is None else str(value)
