"""Kernels of the CUDA backend, one a file, in the words of `jitllm.kernels.gpu.vocabulary`."""
