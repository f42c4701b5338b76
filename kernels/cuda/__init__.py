"""Kernels of the CUDA backend, one a file; see `jitllm.kernels.gpu` for how they are written."""
