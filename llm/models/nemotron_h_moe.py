"""Nemotron H with experts: "nemotron_h_moe". Source: NVIDIA, "Nemotron 3", 2025."""

from jitllm.llm.models.nemotron_h import build

__all__ = ["build"]
