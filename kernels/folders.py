"""Where files are kept that can be made or fetched again."""

import os
from pathlib import Path


def cache_root() -> Path:
    """Return `JITLLM_CACHE`, a ~ in it being the home folder; else the user's cache folder."""
    if chosen := os.environ.get("JITLLM_CACHE"):
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("jitllm", appauthor=False))
