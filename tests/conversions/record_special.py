"""Settings of tokenizers in many combinations, and the keys that llama.cpp's converter makes.

`python -m conversions.record_special GGUF_PY` in tests/ writes them to data/convert/special.json;
GGUF_PY is the folder gguf-py of llama.cpp's source, newer than the gguf package.
"""

import json
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PATH = Path(__file__).parents[1] / "data" / "convert" / "special.json"
N_CASES, N_VOCAB = 120, 8
TEXTS = ("<s>", "</s>", "[CLS]", "[SEP]", "<|im_end|>")
_PARTS = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
_ADDABLE = ("bos", "eos", "sep")


def cases() -> Iterator[dict[str, Any]]:
    """Files of a tokenizer by name, the same ones every time."""
    rng = random.Random(0)
    for _ in range(N_CASES):
        added = [{"id": i, "content": t} for i, t in enumerate(TEXTS) if rng.random() < 0.8]
        settings: dict[str, Any] = {
            f"{p}_token": rng.choice([None, *TEXTS]) for p in _PARTS if rng.random() < 0.7
        }
        settings |= {f"add_{p}_token": rng.random() < 0.5 for p in _ADDABLE if rng.random() < 0.5}
        settings["chat_template"] = rng.choice(["{{ a }}", [{"name": "a b", "template": "c"}]])
        yield {
            "tokenizer.json": {
                "added_tokens": added,
                "post_processor": _processor(rng),
                "normalizer": rng.choice([None, {"type": "Lowercase"}]),
                "model": {"merges": rng.choice([["a b"], [["a", "b c"]]])},
            },
            "tokenizer_config.json": settings if rng.random() < 0.9 else {},
            "config.json": {"model_type": "llama", "bos_token_id": 0, "eos_token_id": [1, 2],
                            "pad_token_id": rng.choice([3, 9])},
        }  # fmt: skip


def _processor(rng: random.Random) -> dict[str, Any]:
    kind = rng.choice(["TemplateProcessing"] * 3 + ["ByteLevel", "RobertaProcessing", "Sequence"])
    if kind == "TemplateProcessing":
        return _template(rng)
    if kind == "Sequence":
        return {"type": kind, "processors": [{"type": "ByteLevel"}, _template(rng)]}
    return {"type": kind, "sep": [rng.choice(TEXTS), 1], "cls": [rng.choice(TEXTS), 2]}


def _template(rng: random.Random) -> dict[str, Any]:
    def tokens(n: int) -> list[dict[str, Any]]:
        return [{"SpecialToken": {"id": text, "type_id": 0}} for text in rng.sample(TEXTS, n)]

    start, end, between = (
        tokens(rng.randrange(2)),
        tokens(rng.randrange(2)),
        tokens(rng.randrange(3)),
    )
    one, two = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    single, pair = [*start, one, *end], [*start, one, *between, two, *end]
    return {"type": "TemplateProcessing", "single": single, "pair": rng.choice([pair, []])}


def write(case: dict[str, Any], folder: Path) -> Path:
    """Write a case's files, those that are not empty."""
    folder.mkdir()
    for name, content in case.items():
        if content:
            (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


def main(gguf_py: str) -> None:
    """Record what the reference makes of all cases."""
    sys.path.insert(0, gguf_py)
    import gguf

    lines = []
    with tempfile.TemporaryDirectory() as scratch:
        for i, case in enumerate(cases()):
            writer = gguf.GGUFWriter(None, "llama")
            folder = write(case, Path(scratch, str(i)))
            vocabulary = gguf.SpecialVocab(folder, load_merges=True, n_vocab=N_VOCAB)
            vocabulary.add_to_gguf(writer, quiet=True)
            values = {
                key: [value.type.name.lower(), value.value]
                for key, value in writer.kv_data[0].items()
                if key.startswith("tokenizer.")
            }
            lines.append(json.dumps(values))
    PATH.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
