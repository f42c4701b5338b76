"""`convert`: a folder of a Hugging Face model in, a GGUF file out."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from jitllm.llm import convert as families
from jitllm.llm.convert import _general as general
from jitllm.llm.convert import _llama2c as llama2c
from jitllm.llm.convert._check import check
from jitllm.llm.convert._source import Source
from jitllm.llm.convert._target import Target
from jitllm.llm.errors import JitllmError, ModelFormatError, UnsupportedArchitecture
from jitllm.llm.loaders.gguf_writer import NewTensor, write_gguf
from jitllm.llm.progress import ProgressBar

_FILE_TYPES = {"F32": 0, "F16": 1, "Q8_0": 7, "BF16": 32}
_QUANTIZATION_VERSION = 2


@dataclass(frozen=True)
class Converted:
    """What `convert` did, or would do.

    Attributes
    ----------
    path : Path
        The file.
    architecture : str
        `general.architecture`.
    outtype : str
        Type of matrices.
    tensors : tuple of NewTensor
        In the order of the file.
    """

    path: Path
    architecture: str
    outtype: str
    tensors: tuple[NewTensor, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors)


def convert(
    folder: str | os.PathLike[str],
    target: str | os.PathLike[str] | None = None,
    outtype: str = "auto",
    *,
    name: str | None = None,
    pre: str | None = None,
    tokenizer: str | os.PathLike[str] | None = None,
    dry_run: bool = False,
    progress: bool = True,
) -> Converted:
    """Write a Hugging Face model as a GGUF file, equal to that of `convert_hf_to_gguf.py`.

    PyTorch is not needed, and of the weights one tensor at a time is in memory. The file appears
    when it is complete; an error or an interrupt leaves nothing behind.

    Parameters
    ----------
    folder : str or path
        With config.json, model*.safetensors, and the tokenizer's files; or a checkpoint file of
        llama2.c, version 0.
    target : path, optional
        Replaced if there is such a file. A folder, by default the model's own, gets a file named
        after the model and `outtype`.
    outtype : str
        Type of matrices: "f32", "f16", "bf16", "q8_0", or "auto", which is the one of the first
        matrix if that has 16 bits, else "f16". Vectors and some others are always float32.
    name : str, optional
        `general.name`, instead of what the model card or the folder's name tells.
    pre : str, optional
        `tokenizer.ggml.pre`, where the tokenizer's way to cut text is not known.
    tokenizer : path, optional
        The vocabulary of a checkpoint of llama2.c; by default tokenizer.bin beside it.
    dry_run : bool
        Decide everything and write nothing.
    progress : bool
        Show a bar on stderr.

    Raises
    ------
    ModelNotFoundError
        If a file that is needed is not there.
    ModelFormatError
        If a file is damaged, or files do not fit together.
    UnsupportedArchitecture, UnsupportedFormat, UnsupportedTokenizer
        If the model is of a kind that cannot be converted; the message says which can.
    ValueError
        If `outtype` is unknown, or `target` is a file of another kind.
    OSError
        If the file cannot be written.
    """
    path = Path(folder).expanduser()
    if path.is_file():
        beside = path.with_name("tokenizer.bin")
        made = llama2c.read(path, Path(tokenizer) if tokenizer else beside, name or path.stem)
    else:
        made = _read_folder(path, name, pre)
    ftype = _file_type(outtype, made)
    made.key("uint32", "general.file_type", _FILE_TYPES[ftype])
    tensors = tuple(
        NewTensor(name, weight.shape, made.type_of(name, ftype))
        for name, weight in made.tensors.items()
    )
    check(made, path)
    place = _place(path, target, ftype)
    if not dry_run:
        with ProgressBar(progress, "converting", scale=True) as bar:
            write_gguf(place, made.ordered(), tensors, _data(made, tensors, bar))
    return Converted(place, made.architecture, ftype, tensors)


def _place(source: Path, target: str | os.PathLike[str] | None, ftype: str) -> Path:
    """Return the path of the new file."""
    default = source if source.is_dir() else source.parent
    place = default if target is None else Path(target)
    if place.is_file() and place.suffix != ".gguf":
        raise ValueError(f"expected a new file or a .gguf to replace, got {place}")
    if not place.is_dir():
        return place
    return place / f"{source.stem if source.is_file() else source.resolve().name}-{ftype}.gguf"


def _read_folder(folder: Path, name: str | None, pre: str | None) -> Target:
    """Return what a Hugging Face model becomes."""
    source = Source(folder, pre)
    config = source.config
    family = families.get(source.model_type)
    classes = config.get("architectures") or list(family.CLASSES)
    if not isinstance(classes, list) or classes[0] not in family.CLASSES:
        raise UnsupportedArchitecture(
            f"{config.path}: expected architectures among {', '.join(family.CLASSES)} for "
            f"model_type {source.model_type!r}, got {classes!r:.80}"
        )
    config.complete(family.DEFAULTS)
    made = Target(family.ARCHITECTURE)
    try:
        family.convert(source, made)
        general.write(source, made, name)
    except JitllmError:
        raise
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        # JSON of every form comes here; what stands where is only known where it is used
        raise ModelFormatError(
            f"{folder}: expected config.json and the tokenizer's files as transformers writes "
            f"them, got {error!r}"
        ) from error
    found = {key.split(".")[1] for key in made.tensors if key.startswith("blk.")}
    layers = range(config.size("num_hidden_layers", "n_layers", "n_layer"))
    if missing := list(islice((str(i) for i in layers if str(i) not in found), 10)):
        raise ModelFormatError(
            f"{folder}: expected tensors of {len(layers)} layers, got none of "
            f"{', '.join(missing)}; fetch the model again"
        )
    made.key("uint32", "general.quantization_version", _QUANTIZATION_VERSION)
    return made


def _file_type(outtype: str, made: Target) -> str:
    """Return the type of matrices."""
    if outtype == "auto":
        matrices = (weight.dtype for weight in made.tensors.values() if len(weight.shape) > 1)
        return next((dtype for dtype in matrices if dtype != "F32"), "F16")
    if outtype.upper() not in _FILE_TYPES:
        raise ValueError(
            f"expected an outtype among auto, {', '.join(map(str.lower, _FILE_TYPES))}; got "
            f"{outtype!r}; `jitllm quantize` makes smaller ones"
        )
    return outtype.upper()


def _data(
    made: Target, tensors: tuple[NewTensor, ...], bar: ProgressBar
) -> Iterator[Iterator[bytes]]:
    done, total = 0, sum(tensor.nbytes for tensor in tensors)
    for tensor in tensors:
        yield _counted(made, tensor, bar, done, total)
        done += tensor.nbytes


def _counted(
    made: Target, tensor: NewTensor, bar: ProgressBar, done: int, total: int
) -> Iterator[bytes]:
    try:
        for piece in made.tensors[tensor.name].as_type(tensor.type_name):
            yield piece
            done += len(piece)
            bar.update(done, total)
    except ValueError as error:  # also of arrays that do not fit together
        raise ModelFormatError(f"tensor {tensor.name!r}: {error}") from error
