"""How an encoder's tokens become one vector: files of sentence-transformers."""

import json

from jitllm.llm.convert._source import Source
from jitllm.llm.convert._target import Target
from jitllm.llm.errors import ModelFormatError, UnsupportedFormat

_MEAN, _CLS, _LAST = 1, 2, 3
_FLAGS = {
    "pooling_mode_mean_tokens": _MEAN,
    "pooling_mode_cls_token": _CLS,
    "pooling_mode_lasttoken": _LAST,
}
_MODES = {"mean": _MEAN, "cls": _CLS, "lasttoken": _LAST}


def write(source: Source, target: Target) -> None:
    """Put down the kind of pooling, where modules.json names a file that tells it.

    Raises
    ------
    UnsupportedFormat
        If it is none of mean, first and last token.
    ModelFormatError
        If modules.json is damaged.
    """
    path = source.folder / "modules.json"
    if not path.is_file():
        return
    try:
        kinds = [(str(m["type"]), str(m["path"])) for m in json.loads(path.read_text("utf-8"))]
    except (ValueError, TypeError, KeyError) as error:
        raise ModelFormatError(f"{path}: expected a list of modules, got {error!r}") from None
    place = next((place for kind, place in kinds if kind.endswith("Pooling")), None)
    if place is None:
        return
    settings = source.json(f"{place}/config.json")
    found = next((kind for flag, kind in _FLAGS.items() if settings.get(flag)), None)
    found = found or _MODES.get(str(settings.get("pooling_mode")))
    if found is None:
        raise UnsupportedFormat(
            f"{source.folder / place}: expected pooling among {', '.join(_MODES)}, got "
            f"{sorted(name for name, value in settings.items() if value is True)}"
        )
    target.key("uint32", "pooling_type", found)
