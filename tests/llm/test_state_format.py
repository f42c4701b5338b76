"""State files read by nothing but what docs/STATE.md says of them."""

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from models import model_path

import jitllm
from jitllm.llm.state_files.file import StateFile
from jitllm.llm.state_files.pruning import prune

_DTYPES = {"U8": "u1", "I32": "<i4", "F16": "<f2", "F32": "<f4"}


def _records(content: bytes) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    found, place = [], 0
    while place < len(content):
        head = content[place : place + 64]
        magic, version, text_crc, n_text, n_data = struct.unpack_from("<8sIIQQ", head)
        assert (magic, version) == (b"JITSTATE", 1)
        assert head[32:60] == bytes(28)
        assert struct.unpack_from("<I", head, 60)[0] == zlib.crc32(head[:60])
        text = content[place + 64 : place + 64 + n_text]
        data = content[place + 64 + n_text : place + 64 + n_text + n_data]
        assert zlib.crc32(text) == text_crc
        values, arrays = json.loads(text), {}
        for name, row in values["arrays"].items():
            start, stop = row["data_offsets"]
            assert zlib.crc32(data[start:stop]) == row["crc32"]
            arrays[name] = np.frombuffer(data[start:stop], _DTYPES[row["dtype"]])
            arrays[name] = arrays[name].reshape(row["shape"])
            assert not any(data[stop : -(-stop // 64) * 64])
        found.append((values, arrays))
        assert n_text % 64 == n_data % 64 == 0
        place += 64 + n_text + n_data
    return found


def test_the_document_is_enough(tmp_path: Path) -> None:
    path = tmp_path / "some.state"
    with (
        jitllm.load(model_path("stories260K"), n_ctx=256, n_threads=1, progress=False) as model,
        model.sequence([1, *range(3, 92)]) as s,
    ):
        s.save(path, label="first")
        s.append([5] * 10).save(path)
        (first, old), (second, new) = _records(path.read_bytes())
        assert (first["label"], first["parent"], first["n_done"]) == ("first", None, 90)
        assert (second["parent"], second["kept_cells"]) == (first["id"], 90)
        assert first["key"] != second["key"] and len(first["key"]) == 16
        assert first["model"] == model.identity.brief()
        assert old["tokens"].tolist() == s.token_ids[:90]
        assert old.keys() == {"tokens", "logits", "cells.0.0-64", "cells.0.64-90"}
        assert np.array_equal(new["logits"], s.logits)
        for block, cache, layer in second["blocks"]:
            k, v = s.kv[block].read()
            sizes = second["caches"][cache]["layers"]
            for name, array in (*old.items(), *new.items()):
                if name.startswith(f"cells.{cache}."):
                    start, stop = map(int, name.split(".")[2].split("-"))
                    rows = [g * (dk + dv) * (stop - start) for g, dk, dv in sizes]
                    part = np.split(array, np.cumsum(rows)[:-1])[layer]
                    heads, dk, dv = sizes[layer]
                    keys, values = np.split(part, [heads * dk * (stop - start)])
                    keys = keys.reshape(heads, dk, stop - start).transpose(2, 0, 1)
                    values = values.reshape(heads, stop - start, dv).transpose(1, 0, 2)
                    assert np.array_equal(keys.astype(np.float32), k[start:stop])
                    assert np.array_equal(values.astype(np.float32), v[start:stop])


def test_keys_of_others_are_left_alone(tmp_path: Path) -> None:
    """What a checkpoint has beside what is documented is ignored, and survives pruning."""
    path = tmp_path / "some.state"
    with jitllm.load(model_path("stories260K"), n_ctx=64, n_threads=1, progress=False) as model:
        with model.sequence([1, 5, 9]) as sequence:
            sequence.save(path, label="own")
            expected = sequence.logits
        (own, arrays), *_ = _records(path.read_bytes())
        assert not any(name.startswith(("grammar", "draft")) for name in (*own, *arrays))
        more = {**arrays, "draft.rows": np.ones(3, np.float32)}
        head = {k: v for k, v in own.items() if k not in ("arrays", "id", "key", "created", "kind")}
        with StateFile(path) as file:
            file.append({**head, "label": "more", "grammar": {"rule": 4}}, more)
            file.append_record({"kind": "other"}, {"x": np.ones(3, np.float32)})
        prune(path)
        with model.load_sequence(path, "more") as sequence:
            assert np.array_equal(sequence.logits, expected)
    with StateFile(path) as file:
        assert [record.head["kind"] for record in file.records] == ["checkpoint"] * 2
        found = file.get("more")
        assert found.record.head["grammar"] == {"rule": 4}
        assert np.array_equal(file.array(found, "draft.rows"), np.ones(3, np.float32))
