"""Tensor formats: one file per GGUF type."""
