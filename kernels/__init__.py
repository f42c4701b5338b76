"""Compute kernels: compiled functions over arrays, their NumPy twins and the tensor formats."""

if __name__ == "kernels":  # found by its folder name: the repository root is on sys.path
    raise ImportError(
        "kernels/ is imported as jitllm.kernels: use `python -P` or start Python elsewhere"
    )
