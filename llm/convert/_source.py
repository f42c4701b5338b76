"""What is in the folder of a Hugging Face model: its configuration, weights and other files."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jitllm.llm.convert import _safetensors
from jitllm.llm.convert._weights import Weight
from jitllm.llm.errors import ModelFormatError, ModelNotFoundError, UnsupportedFormat

_UNUSED = (".attention.masked_bias", ".attention.bias", ".rotary_emb.inv_freq")
# parts of names of what sees and hears in models that also do that; the text model has none of it
_OTHER_SENSES = (
    "visual.", "vision.", "audio.", "talker.", "vision_", "audio_", "projector.",
    "pre_mm_projector_norm", "image_newline", "patch_embed", "patch_merge", "model.connector.",
)  # fmt: skip


class Config:
    """A configuration; values that are null count as absent.

    Parameters
    ----------
    values : mapping
        Of config.json.
    path : Path
        For messages.
    """

    def __init__(self, values: Mapping[str, Any], path: Path) -> None:
        self.values = {name: value for name, value in values.items() if value is not None}
        self.path = path

    def complete(self, values: Mapping[str, Any]) -> None:
        """Give values to what is absent."""
        self.values = {**values, **self.values}

    def get(self, *names: str) -> Any:
        """Return the first value that is there, or None."""
        return next((self.values[name] for name in names if name in self.values), None)

    def need(self, *names: str) -> Any:
        """Return the first value that is there.

        Raises
        ------
        ModelFormatError
            If there is none.
        """
        value = self.get(*names)
        if value is None:
            raise ModelFormatError(f"{self.path}: expected {' or '.join(names)}, got no such key")
        return value

    def size(self, *names: str) -> int:
        """Return the first value that is there, a positive whole number.

        Raises
        ------
        ModelFormatError
            If there is none, or it is something else.
        """
        value = self.need(*names)
        if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
            raise ModelFormatError(
                f"{self.path}: {names[0]}: expected a positive whole number, got {value!r}"
            )
        return value


class Source:
    """A model's folder.

    Parameters
    ----------
    folder : Path
    pre : str, optional
        Name of the way in which the tokenizer cuts text, where it is not known.

    Raises
    ------
    ModelNotFoundError
        If there is no config.json.
    ModelFormatError
        If config.json is damaged.
    UnsupportedFormat
        If the weights are quantized.
    """

    def __init__(self, folder: Path, pre: str | None = None) -> None:
        self.folder, self.pre = folder, pre
        self._read: dict[str, dict[str, Any]] = {}
        path = folder / "config.json"
        values = self.json("config.json")
        if not values:
            raise ModelNotFoundError(f"expected {path} with a model's configuration, got none")
        if quantized := values.get("quantization_config"):
            method = quantized.get("quant_method") if isinstance(quantized, dict) else quantized
            raise UnsupportedFormat(
                f"{path}: expected weights that are not quantized, got quantization_config "
                f"{method!r}; convert the model it was made from"
            )
        text = values.get("text_config")
        self.config = Config({**values, **text} if isinstance(text, dict) else values, path)
        self.model_type = _model_type(Config(values, path))

    def json(self, name: str) -> dict[str, Any]:
        """Return the object in a JSON file, empty where there is no file.

        Raises
        ------
        ModelFormatError
            If it is no JSON object.
        """
        if name not in self._read:
            self._read[name] = self._read_json(name)
        return self._read[name]

    def _read_json(self, name: str) -> dict[str, Any]:
        path = self.folder / name
        if not path.is_file():
            return {}
        try:
            value = json.loads(path.read_text("utf-8"))
        except (ValueError, RecursionError) as error:
            raise ModelFormatError(f"{path}: expected JSON, got {error}") from None
        if not isinstance(value, dict):
            raise ModelFormatError(f"{path}: expected an object, got {value!r:.40}")
        return value

    def weights(self) -> Iterator[tuple[str, Weight]]:
        """Yield names and weights of the model of text, in the order of files and names."""
        for name, weight in _safetensors.read_folder(self.folder).items():
            if name.endswith(_UNUSED) or any(part in name for part in _OTHER_SENSES):
                continue
            yield name.replace("language_model.", ""), weight


def _model_type(config: Config) -> str:
    if config.get("model_type") is None and (layer := config.get("ssm_cfg")):
        return str(layer.get("layer", "Mamba")).lower()  # of the first Mamba models
    return str(config.need("model_type"))
