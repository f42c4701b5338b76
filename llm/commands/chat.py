"""`jitllm chat`: a conversation in the terminal."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jitllm.llm.commands._options import (
    ModelCommand,
    ModelOptions,
    model_options,
    sampling_options,
)
from jitllm.llm.commands._output import write_chunk
from jitllm.llm.errors import ChatTemplateError, ContextLengthExceeded

if TYPE_CHECKING:
    from jitllm.llm.model import Model

_HELP = "/reset starts over, /exit or Ctrl-D ends, Ctrl-C stops an answer"


class Conversation:
    """Messages, and the sequence that has read them.

    Parameters
    ----------
    model : Model
    system : str or None
        System prompt.
    sampling : dict
        Keywords of `Sequence.generate`.
    template : str, optional
        Text of a chat template, in place of the model's.
    """

    def __init__(
        self,
        model: "Model",
        system: str | None,
        sampling: dict[str, Any],
        template: str | None = None,
    ) -> None:
        self.model = model
        self.template = template
        self.sampling = sampling
        self.system = system
        self.sequence = model.sequence()
        self.reset()

    def reset(self) -> None:
        """Forget all messages but the system prompt."""
        self.messages = [{"role": "system", "content": self.system}] if self.system else []
        self.sequence.truncate(0)
        self._read, self._ids = "", list[int]()  # what the sequence has held, as text and tokens

    def ask(self, text: str) -> None:
        """Send a message and write the answer to stdout.

        Ctrl-C ends the answer; what was written of it stays part of the conversation. A message
        for which the context is too short is taken back.

        Raises
        ------
        ContextLengthExceeded
        """
        kept = len(self.messages)
        self.messages.append({"role": "user", "content": text})
        written: list[str] = []
        try:
            self._read_new_tokens()
            self._answer(written)
        except KeyboardInterrupt:
            pass
        except ContextLengthExceeded:
            del self.messages[kept:]
            raise
        answer = "".join(written)
        self._read += answer
        self.messages.append({"role": "assistant", "content": answer})

    def _read_new_tokens(self) -> None:
        """Bring the sequence to the whole conversation; what it has read or written stays."""
        from jitllm.llm.context_shift import make_room
        from jitllm.llm.sampling import SamplingParams
        from jitllm.llm.state.contents import common_prefix

        text = self.model.apply_chat_template(self.messages, template=self.template)
        tokens = self.model.chat_ids(text)
        new = self._continuation(text, tokens)
        if new is None:  # the template changed earlier turns: keep what both begin with
            same = common_prefix(self.sequence.token_ids, tokens)
            self.sequence.truncate(min(same, len(tokens) - 1))
            self._ids = self.sequence.token_ids
            new = tokens[len(self.sequence) :]
        if self.sampling.get("n_keep") == -1:  # all of the first prompt
            self.sampling = {**self.sampling, "n_keep": len(new)}
        if self.sampling.get("context_shift"):
            make_room(self.sequence, len(new), SamplingParams.create(**self.sampling))
        self.sequence.append(new)
        self._read, self._ids = text, [*self._ids, *new]

    def _answer(self, written: list[str]) -> None:
        """Generate, and write the pieces of the text."""
        stream = self.sequence.generate(stream=True, **self.sampling)
        try:
            for chunk in stream:
                written.append(chunk.text)
                write_chunk(chunk.text)
        finally:
            stream.close()
            held, read = self.sequence.token_ids, self._ids
            is_whole = held[: len(read)] == read  # else a context shift took tokens out
            self._ids = held if is_whole else [*read, *stream.result.token_ids]

    def _continuation(self, text: str, tokens: list[int]) -> list[int] | None:
        """Tokens that bring the sequence to `text`; None if it does not begin like it.

        An answer was not always generated in the tokens that its text would be cut into.
        """
        if not len(self.sequence) or not text.startswith(self._read):
            return None
        new = self.model.tokenize(text[len(self._read) :], add_special=False)
        joined = self.model.detokenize([*self._ids, *new])
        return new if joined == self.model.detokenize(tokens) else None


@click.command(cls=ModelCommand)
@click.option("-sys", "--system-prompt", "system", help="System prompt.")
@click.option("--chat-template-file", "template_file", type=click.Path(path_type=Path),
              help="A chat template in Jinja, in place of the model's.")  # fmt: skip
@sampling_options(default_max_tokens=None)
@model_options
def command(
    options: ModelOptions,
    system: str | None,
    template_file: Path | None,
    sampling: dict[str, Any],
) -> None:
    """Talk to a model.

    /reset starts over, /exit or Ctrl-D ends, Ctrl-C stops an answer. The model's chat template
    writes down the conversation.
    """
    template = template_file.read_text("utf-8") if template_file else None
    with options.load() as model:
        if template is None and not model.has_chat_template:
            raise ChatTemplateError(
                f"expected a chat template in {options.ref}, got none; "
                "give one by --chat-template-file, or use `jitllm run`, which needs none"
            )
        conversation = Conversation(model, system, sampling, template)
        interactive = sys.stdin.isatty()
        if interactive:
            _enable_line_editing()
        if not options.quiet:
            click.echo(_HELP, err=True)
        while (line := _next_line(interactive)) is not None:
            _handle(conversation, line)
        conversation.sequence.close()


def _handle(conversation: Conversation, line: str) -> None:
    if line == "/reset":
        conversation.reset()
    elif line.startswith("/"):
        click.echo(f"unknown command {line.split()[0]!r}: {_HELP}", err=True)
    elif line:
        try:
            conversation.ask(line)
        except ContextLengthExceeded as error:
            click.echo(f"{error}; /reset starts over", err=True)
        write_chunk("\n")


def _next_line(interactive: bool) -> str | None:
    """Return what the user typed; None at the end."""
    while True:
        try:
            line = (input("> ") if interactive else input()).strip()
        except EOFError:
            return None
        except KeyboardInterrupt:  # an answer is not running: a half-typed line is dropped
            click.echo(err=True)
            continue
        return None if line == "/exit" else line


def _enable_line_editing() -> None:
    try:
        import readline  # noqa: F401  importing it is what gives input() a history
    except ImportError:  # Windows has its own
        pass
