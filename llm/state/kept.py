"""Sequences that are kept: in memory to come back to, and in state files."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Self

from jitllm.llm.errors import StateError
from jitllm.llm.state.contents import Contents
from jitllm.llm.state.counters import counted
from jitllm.llm.state.history import History, Moment
from jitllm.llm.state.running import RunningSequence
from jitllm.llm.state_files import saving
from jitllm.llm.state_files.checkpoint import Checkpoint
from jitllm.llm.state_files.file import StateFile
from jitllm.llm.state_files.log import again_if_changed
from jitllm.llm.state_files.partial import restore_states
from jitllm.llm.state_files.ranges import CellRange, ranges, restore_range, save_range
from jitllm.llm.state_files.restoring import restore

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class KeptSequence(RunningSequence):
    """A sequence that goes back to what it was; `Sequence` is what users see."""

    def checkpoint(self, label: str = "") -> Moment:
        """Keep the sequence as it is now, in memory: nothing is copied until it is written to.

        The generation under way is part of it. `history` lists what is kept.
        """
        self._check_open()
        with counted("checkpoint"):
            return self.history.add(self._now.fork(), label)

    def rollback(self, which: int | str | Moment | None = None) -> Self:
        """Become what the sequence was at a checkpoint, which stays; nothing is computed again.

        Parameters
        ----------
        which : int, str or Moment, optional
            A place in `history`, or a label; by default the newest.

        Returns
        -------
        Sequence
            This one.

        Raises
        ------
        StateError
            If there is no such checkpoint; nothing changes.
        """
        self._check_open()
        with counted("rollback"):
            self._become(self.history.get(which).contents.fork())
        return self

    def _become(self, contents: Contents) -> None:
        self._box.now, before = contents, self._box.now
        before.cells.release()

    def branch(self, which: int | str | Moment | None = None) -> Self:
        """Return a new sequence that is what this one was at a checkpoint; see `rollback`."""
        self._check_open()
        return type(self)(self.model, self.history.get(which).contents.fork())

    @property
    def history(self) -> History:
        """The checkpoints in memory, oldest first; forks begin without any."""
        return self._box.history

    def show_cells(self, ax: "Axes | None" = None) -> "Axes":
        """Draw which pages each cache holds: its own, shared ones, those that windows dropped.

        Kept states are marks, checkpoints in memory dotted lines. Needs matplotlib.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            By default those of a new figure.
        """
        from jitllm.llm.state.picture import picture

        return picture(self, ax)

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        label: str = "",
        only_states: bool = False,
        sync: bool = True,
    ) -> Checkpoint:
        """Add a checkpoint to a state file, which is made if it is not there.

        Only what has changed since this sequence's last save to the file is written. A crash leaves
        the earlier checkpoints; `docs/STATE.md` tells more. `Model.load_sequence` reads it.

        Parameters
        ----------
        path : path
        label : str
            To find it by.
        only_states : bool
            Leave out the cells of full attention, which truncating keeps: recurrent states and
            sliding windows are small. `restore` puts them back into a sequence that still has the
            rest; loaded without it, the tokens are computed again.
        sync : bool
            Wait until the disk has it, so that it survives the end of power too.

        Raises
        ------
        StateError
            If the file is no state file, or one of another model; it stays as it is.
        OSError
            If it cannot be written; the earlier checkpoints stay.
        """
        self._check_open()

        def save() -> Checkpoint:
            file = self._state_file(path)
            return saving.save(
                file, self.model, self._now, label=label, only_states=only_states, sync=sync
            )

        with counted("save"):
            return again_if_changed(save)

    def restore(
        self,
        path: str | os.PathLike[str],
        which: int | str | None = None,
        *,
        only_states: bool | None = None,
        force: bool = False,
    ) -> Self:
        """Become what a sequence was at a checkpoint in a state file.

        Parameters
        ----------
        path : path
        which : int or str, optional
            Number or label of a checkpoint; by default the newest.
        only_states : bool, optional
            Take recurrent states and sliding windows from the file, and keep the cells of full
            attention that are here. By default where the checkpoint has no others.
        force : bool
            Take the state of another model too, if its caches have the same sizes.

        Returns
        -------
        Sequence
            This one.

        Raises
        ------
        StateError, ContextLengthExceeded
            As `Model.load_sequence`; with `only_states` also where this sequence does not begin
            with the checkpoint's tokens, or a part cannot be read. Nothing changes.
        """
        self._check_open()
        with StateFile(path) as file:
            found = file.get(which)
            if not found.is_whole if only_states is None else only_states:
                contents = restore_states(file, found, self.model, self._now, force=force)
            else:
                contents = restore(file, found, self.model, force=force)
        self._become(contents)
        return self

    def save_cells(
        self,
        path: str | os.PathLike[str],
        *,
        blocks: Iterable[int] | None = None,
        start: int = 0,
        stop: int | None = None,
        label: str = "",
        sync: bool = True,
    ) -> CellRange:
        """Add the cells of some tokens in some blocks of the model to a state file, no more.

        Parameters
        ----------
        path : path
            Made if it is not there; may hold checkpoints too.
        blocks : iterable of int, optional
            By default all that have a cache.
        start, stop : int
            Tokens `start` to `stop` - 1; by default all that have cells.
        label : str
        sync : bool
            Wait until the disk has it.

        Raises
        ------
        StateError
            If a block has no cache, a cell is not there, or the file is no state file.
        OSError
            If it cannot be written; the file is as it was.
        """
        self._check_open()

        def save() -> CellRange:
            file = self._state_file(path)
            return save_range(
                file, self.model, self._now, blocks, start, stop, label=label, sync=sync
            )

        with counted("save"):
            return again_if_changed(save)

    def restore_cells(self, path: str | os.PathLike[str], label: str | None = None) -> Self:
        """Overwrite cells with those that `save_cells` wrote; the newest, or the newest of a label.

        Logits are computed again, and with them the last token's own cells.

        Returns
        -------
        Sequence
            This one.

        Raises
        ------
        StateError
            If there are none, they are damaged or of another model, cache type or text. Nothing
            changes.
        """
        self._check_open()
        with counted("restore"), StateFile(path) as file:
            there = ranges(file)
            found = [one for one in there if label is None or one.label == label]
            if not found:
                raise StateError(
                    f"{path}: expected cells {label or 'saved alone'!r}, the file has "
                    f"{[one.label for one in there]}{file.told_damages()}"
                )
            restore_range(file, found[-1], self.model, self._now)
        return self

    def _state_file(self, path: str | os.PathLike[str]) -> StateFile:
        file = self._box.file
        if file is None or file.path != Path(path).resolve() or not file.is_current():
            file = self._box.file = StateFile(path)
        return file
