"""What transformers takes values of config.json to be where they are absent, as JSON on stdout.

The argument is a JSON object: for each `model_type`, the names of values.
"""

import importlib
import json
import sys
from typing import Any


def main(wanted: str) -> None:
    """Write down the values; names that transformers does not know are left out."""
    transformers: Any = importlib.import_module("transformers")
    found = {}
    for kind, names in json.loads(wanted).items():
        config = transformers.AutoConfig.for_model(kind).to_dict()
        config |= config.get("text_config") or {}
        rope = config.get("rope_parameters") or {}
        known = rope.get("full_attention", rope) | config
        found[kind] = {name: known[name] for name in names if name in known}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
