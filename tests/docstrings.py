"""Read numpydoc sections."""

import re

_PARAMETERS = re.compile(r"^Parameters\n-{10}\n(?P<body>.*?)(?=\n\S[^\n]*\n-{3,}|\Z)", re.S | re.M)


def documented_parameters(docstring: str) -> list[str] | None:
    """Names in the section "Parameters", without stars; None when there is no such section."""
    section = _PARAMETERS.search(docstring)
    if section is None:
        return None
    heads = [line for line in section["body"].splitlines() if line and not line[0].isspace()]
    return [name.strip().lstrip("*")
            for head in heads for name in head.split(" : ")[0].split(",")]  # fmt: skip
