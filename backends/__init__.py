"""Devices that run a plan: the files beside this one, found by name."""

if __name__ == "backends":  # found by its folder name: the repository root is on sys.path
    raise ImportError(
        "backends/ is imported as jitllm.backends: use `python -P`, or start Python in another directory"
    )
