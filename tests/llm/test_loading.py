"""What `load` says of files that it cannot run."""

from pathlib import Path

import numpy as np
import pytest
from tiny import write_gguf

import jitllm


def test_an_unknown_architecture_is_told_before_its_keys_are_read(tmp_path: Path) -> None:
    """Others have layers without attention, or arrays where most have one number."""
    metadata = {
        "general.architecture": "nosuch",
        "nosuch.block_count": 2,
        "nosuch.embedding_length": 32,
        "nosuch.attention.head_count_kv": np.array([0, 4], np.int32),
        "nosuch.feed_forward_length": np.array([64], np.int32),
    }
    path = write_gguf(tmp_path / "m.gguf", metadata, {"token_embd.weight": np.zeros((4, 32), "f4")})
    with pytest.raises(jitllm.UnsupportedArchitecture, match="got 'nosuch'"):
        jitllm.load(path, device="reference")
