"""Progress: what is shown, where, and when."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from jitllm.llm import progress
from jitllm.llm.progress import LoadProgress, ProgressBar

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bars show without the second's delay."""
    monkeypatch.setattr(progress, "_DELAY_S", -1.0)


def test_nothing_is_shown_of_what_is_fast(capsys: Capture) -> None:
    with ProgressBar(True, "working") as bar:
        bar.update(1, 2)
    assert capsys.readouterr() == ("", "")


def test_disabled(at_once: None, capsys: Capture) -> None:
    with LoadProgress(False) as shown:
        shown.update(1, 2)
        shown._compile("a.b")
    assert capsys.readouterr() == ("", "")


def test_a_bar_goes_when_it_is_done(at_once: None, capsys: Capture) -> None:
    with ProgressBar(True, "working") as bar:
        bar.update(1, 2, note="first")
    out, err = capsys.readouterr()
    assert "working:  50%" in err and "first" in err
    assert out == "" and "\n" not in err and err.endswith("\r")


def test_kernels_are_counted_and_one_bar_shows_at_a_time(at_once: None, capsys: Capture) -> None:
    with LoadProgress(True) as shown:
        shown.update(0, 100)
        shown._compile("repack.repack")
        shown.update(100, 100)
        weights = capsys.readouterr().err
        shown._compile("matmul.matmul")
        shown._compile("norm.rms_norm")
    kernels = capsys.readouterr().err
    assert "loading weights" in weights and "compiling repack.repack" in weights
    assert "compiling kernels (once): 1 done" in kernels and "matmul.matmul" in kernels
    assert "\n" not in weights + kernels and "%" not in kernels


def test_kernels_are_told_by_the_compiler() -> None:
    from jitllm.kernels import jit

    before = list(jit._on_compile)
    with LoadProgress(True):
        assert len(jit._on_compile) == len(before) + 1
    assert jit._on_compile == before


@pytest.mark.parametrize("has_widgets", [False, True])
def test_the_bar_of_a_notebook(monkeypatch: pytest.MonkeyPatch, has_widgets: bool) -> None:
    shell = SimpleNamespace(kernel=1)
    ipython = ModuleType("IPython")
    ipython.get_ipython = lambda: shell  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: has_widgets or None)
    expected = ("tqdm.notebook", False) if has_widgets else ("tqdm.std", True)
    assert progress._kind() == expected
