"""Tiny Hugging Face folders, and what llama.cpp's converter makes of them.

`data/convert/<family>.json` holds, for each of `TYPES`, every key, type and value of the metadata
(of long arrays a digest), and of every tensor shape, type and digest; `_pretokenizers.json` what
the converter knows of ways to cut text, `_defaults.json` what transformers takes values of
config.json to be that are absent. To record them again, with a Python that has what the
converter needs: ::

    cd tests; python -m conversions.reference PYTHON convert_hf_to_gguf.py [FAMILY ...]
"""

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
from huggingface_hub.constants import ENDPOINT

from conversions import decoders, delta, dense, encoders, further, gemma, hybrids, llama, mixtures
from conversions.tokenizers import save_json
from jitllm.llm import convert as families

FOLDERS = {
    **llama.FOLDERS,
    **decoders.FOLDERS,
    **gemma.FOLDERS,
    **hybrids.FOLDERS,
    **delta.FOLDERS,
    **dense.FOLDERS,
    **mixtures.FOLDERS,
    **further.FOLDERS,
    **encoders.FOLDERS,
}
FAMILIES = tuple(FOLDERS)
PRE_FAMILIES = ("llama", "llama-metaspace", "qwen2", "deepseek2", "bert")
TYPES = ("f32", "f16", "bf16", "q8_0")
Description = tuple[dict[str, Any], dict[str, Any]]
_DATA = Path(__file__).parents[1] / "data" / "convert"
_PRE = _DATA / "_pretokenizers.json"
_DEFAULTS = _DATA / "_defaults.json"
_LONGEST = 8


def make_folder(family: str, path: Path) -> Path:
    """Write the folder of a tiny model of `family` into `path`, and return where it is."""
    return FOLDERS[family].write(path)


def describe(path: Path) -> Description:
    """Metadata of a GGUF file by key, and its tensors by name, in the words of the recorded ones.

    Returns
    -------
    metadata : dict
        (name of the type, value); of more than eight items their number and a digest.
    tensors : dict
        (shape, name of the type, digest of the bytes).
    """
    reader = gguf.GGUFReader(path)
    metadata = {
        name: _value(field) for name, field in reader.fields.items() if not name.startswith("GGUF.")
    }
    tensors = {
        tensor.name: [
            [int(n) for n in reversed(tensor.shape)],
            tensor.tensor_type.name,
            _digest(tensor.data.tobytes()),
        ]
        for tensor in reader.tensors
    }
    return metadata, tensors


def _value(field: gguf.ReaderField) -> list[Any]:
    kind = field.types[-1].name.lower() + "[]" * (len(field.types) - 1)
    content = field.contents()
    if isinstance(content, str):
        content = content.replace(ENDPOINT, "hub:")
    if isinstance(content, list) and len(content) > _LONGEST:
        content = f"{len(content)} items, {_digest(json.dumps(content).encode())}"
    return [kind, content]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def recorded(family: str, kind: str) -> Description:
    """What `describe` says of the file that the reference made, with tensors of type `kind`."""
    content = json.loads((_DATA / f"{family}.json").read_text(encoding="utf-8"))
    i = TYPES.index(kind)
    metadata = {key: value[:2] for key, value in content["metadata"].items()}
    metadata["general.file_type"][1] = content["file_types"][i]
    tensors = {
        name: [shape, *described[min(i, len(described) - 1)].split()]
        for name, (shape, *described) in content["tensors"].items()
    }
    return metadata, tensors


def record(family: str, python: str, converter: str) -> None:
    """Run the reference on the folder of `family`, and write what it made to data/convert.

    Parameters
    ----------
    family : str
    python : str
        A Python with torch, transformers, sentencepiece and gguf.
    converter : str
        llama.cpp's convert_hf_to_gguf.py.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = make_folder(family, Path(scratch))
        files = [Path(scratch, f"{kind}.gguf") for kind in TYPES]
        oracle = Path(__file__).with_name("oracle.py")
        how = (FOLDERS[family].pre, "raw" if FOLDERS[family].raw else "known")
        subprocess.run([python, oracle, converter, *how, folder, *files], check=True)
        _save(family, [describe(file) for file in files])


def _save(family: str, made: Sequence[Description]) -> None:
    metadata = made[0][0]
    kinds = [described[0].pop("general.file_type") for described in made]
    assert all(described[0] == metadata for described in made)
    tensors = {}
    for name, (shape, *_) in made[0][1].items():
        described = [" ".join(tensors[name][1:]) for _, tensors in made]
        tensors[name] = [shape, *(described[:1] if len(set(described)) == 1 else described)]
    metadata["general.file_type"] = kinds[0]
    lines = {
        "file_types": json.dumps([value for _, value in kinds]),
        "metadata": _lines(metadata),
        "tensors": _lines(tensors),
    }
    text = ",\n".join(f'"{key}": {value}' for key, value in lines.items())
    _DATA.mkdir(exist_ok=True)
    (_DATA / f"{family}.json").write_text(f"{{\n{text}\n}}\n", encoding="utf-8")


def _lines(content: dict[str, Any]) -> str:
    lines = (f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in content.items())
    return "{\n" + ",\n".join(lines) + "\n}"


def record_pre(python: str, converter: str) -> None:
    """Write to data/convert what the reference knows of pre-tokenizers; arguments as `record`."""
    with tempfile.TemporaryDirectory() as scratch:
        folders = {make_folder(family, Path(scratch)).name: family for family in PRE_FAMILIES}
        oracle = Path(__file__).with_name("oracle_pre.py")
        command = [python, str(oracle), converter, *(str(Path(scratch, n)) for n in folders)]
        known = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    hashes = {folders[name]: value for name, value in known["hashes"].items()}
    digests = {name: pre_digest(known[name]) for name in ("text", "names")}
    save_json(_PRE, {**digests, "hashes": hashes})


def pre_digest(known: Any) -> str:
    """The digest of a text, or of a table of hashes."""
    return _digest(json.dumps(known, sort_keys=True).encode())


def recorded_pre() -> dict[str, Any]:
    """Digests of the reference's text and table, and its hashes of tokenizers by family."""
    known: dict[str, Any] = json.loads(_PRE.read_text(encoding="utf-8"))
    return known


def record_defaults(python: str) -> None:
    """Write to data/convert what transformers takes absent values to be.

    Parameters
    ----------
    python : str
        A Python with transformers.
    """
    kinds = {str(f.config.get("model_type", "mamba2")) for f in FOLDERS.values()}
    wanted = {kind: sorted(families.get(kind).DEFAULTS) for kind in sorted(kinds)}
    oracle = Path(__file__).with_name("oracle_defaults.py")
    command = [python, str(oracle), json.dumps(wanted)]
    save_json(
        _DEFAULTS, json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    )


def recorded_defaults() -> dict[str, dict[str, Any]]:
    """What transformers takes absent values to be, by `model_type` and name."""
    known: dict[str, dict[str, Any]] = json.loads(_DEFAULTS.read_text(encoding="utf-8"))
    return known


if __name__ == "__main__":
    record_pre(*sys.argv[1:3])
    record_defaults(sys.argv[1])
    for chosen in sys.argv[3:] or FAMILIES:
        record(chosen, sys.argv[1], sys.argv[2])
