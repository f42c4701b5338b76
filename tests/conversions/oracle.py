"""Run llama.cpp's converter on a folder, with the pre-tokenizer named instead of found.

Arguments: convert_hf_to_gguf.py, the pre-tokenizer, "raw" or "known", the folder, a file to write
for each type, which its stem names. The converter finds the pre-tokenizer by the ids of a long
text, which no tiny vocabulary has. Where "raw" is said, it is kept from asking transformers for
the configuration, and reads config.json instead.
"""

import importlib
import runpy
import sys
from pathlib import Path


def main(converter: str, pre: str, config: str, folder: str, *files: str) -> None:
    """Convert `folder` to each of `files`."""
    sys.path.insert(0, str(Path(converter).parent))
    base = importlib.import_module("conversion.base")
    base.TextModel.get_vocab_base_pre = lambda self, tokenizer: pre
    if config == "raw":
        del base.AutoConfig
    for file in files:
        kind = Path(file).stem
        sys.argv = [converter, folder, "--outfile", file, "--outtype", kind]
        runpy.run_path(converter, run_name="__main__")


if __name__ == "__main__":
    main(*sys.argv[1:])
