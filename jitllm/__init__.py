"""jitllm: run GGUF language models with kernels compiled by Numba."""

__version__ = "0.1.0"
__all__: list[str] = []
