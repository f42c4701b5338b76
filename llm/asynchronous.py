"""Generations for programs with an event loop."""

import asyncio
from collections.abc import AsyncIterator, Generator
from typing import Any

from jitllm.llm.generate import GenerationStream
from jitllm.llm.results import Chunk, Generation


class AsyncGeneration:
    """A generation for use in an event loop: `await` it for the result, or iterate over its chunks.

    The steps run in a thread; between them the loop is free. A cancelled task ends the generation.

    Parameters
    ----------
    stream : GenerationStream
    """

    def __init__(self, stream: GenerationStream) -> None:
        self.stream = stream

    def __await__(self) -> Generator[Any, None, Generation]:
        return self._finish().__await__()

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        try:
            while (chunk := await asyncio.to_thread(next, self.stream, None)) is not None:
                yield chunk
        finally:
            self.stream.cancel()

    async def _finish(self) -> Generation:
        async for _ in self:
            pass
        return self.stream.result

    @property
    def result(self) -> Generation:
        """As `GenerationStream.result`."""
        return self.stream.result
