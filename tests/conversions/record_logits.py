"""Records logits that transformers computes from the tiny folders of `conversions/reference.py`.

`python -m conversions.record_logits [FAMILY ...]` in tests/, with torch, transformers and gguf.
data/convert/logits.npz has, for every family that transformers runs, those of the last two of
`TOKENS`, float32 [2, vocabulary].
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from conversions.reference import FAMILIES, make_folder

PATH = Path(__file__).parents[1] / "data" / "convert" / "logits.npz"
TOKENS = (7, 20, 33, 29, 5, 40, 18, 36, 7, 11, 31, 25)
LEFT_OUT = (
    *("bert", "bert-reranker", "nomic-bert", "roberta", "xlm-roberta", "distilbert"),  # no logits
    *("mamba", "mamba2-original", "gemma3-vision"),  # folders that transformers does not open
    *("qwen3", "qwen3-embedding", "gpt-oss"),  # settings of YaRN that no reader of GGUF follows
)


def logits(folder: Path) -> Any:
    """Logits of the last two tokens, in float32 throughout."""
    import torch  # type: ignore[import-not-found]
    import transformers  # type: ignore[import-not-found]

    torch.set_num_threads(1)
    config = transformers.AutoConfig.from_pretrained(folder)
    if hasattr(config, "pad_token_id"):
        config.pad_token_id = None  # it may lie outside of a tiny vocabulary
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, config=config, dtype=torch.float32, attn_implementation="eager"
    )
    with torch.no_grad():
        return model.eval()(torch.tensor([TOKENS])).logits[0, -2:].numpy()


def main(*chosen: str) -> None:
    """Record the chosen families, or all."""
    known = dict(np.load(PATH)) if chosen else {}
    for family in chosen or FAMILIES:
        if family not in LEFT_OUT:
            with tempfile.TemporaryDirectory() as scratch:
                known[family] = logits(make_folder(family, Path(scratch)))
    np.savez_compressed(PATH, **known)


if __name__ == "__main__":
    main(*sys.argv[1:])
