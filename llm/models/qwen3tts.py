"""The speech token model of Qwen 3 TTS: "qwen3tts". Source: Qwen Team, "Qwen3-TTS", 2026."""

from jitllm.llm.models.qwen3vl import build

__all__ = ["build"]
