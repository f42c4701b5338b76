"""The reader of numpydoc sections."""

from docstrings import documented_parameters

TEXT = """Do it.

Parameters
----------
a, b : int
    Two numbers.
**options
    Others.

Returns
-------
x : int
"""


def test_names_are_found() -> None:
    assert documented_parameters(TEXT) == ["a", "b", "options"]


def test_without_a_section_there_are_none() -> None:
    assert documented_parameters("Do it.") is None
