"""Text to token ids and back, and chats to text."""

from jitllm.llm.tokenizer.chat_template import ChatTemplate
from jitllm.llm.tokenizer.tokenizer import Tokenizer

__all__ = ["ChatTemplate", "Tokenizer"]
