"""Hunyuan, dense: "hunyuan-dense". Source: Tencent, "Hunyuan-7B", 2025."""

from jitllm.llm.models.hunyuan_vl import build

__all__ = ["build"]
