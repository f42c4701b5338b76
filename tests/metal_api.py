"""What `metal_types.h` says of Objective-C and Metal, to be compared with Apple's headers."""

import re
from pathlib import Path

HEADER = Path(__file__).parents[1] / "backends" / "metal" / "metal_types.h"
_MESSAGE = re.compile(r"X\((\w+), \w+, ([\w *]+), \"([\w:]+)\", \(([^()]*)\)\)")
_VALUE = re.compile(r"^    ((?:NS|MTL)\w+) = (\d+),$", re.MULTILINE)


def messages(text: str) -> dict[str, list[str]]:
    """Return result and arguments of every message, by receiver and selector."""
    found = {}
    for receiver, result, selector, types in _MESSAGE.findall(re.sub(r"\\\n\s+", "", text)):
        own, name, *arguments = types.split(", ")
        assert (own, name) == ("id", "SEL")
        found[f"{receiver} {selector}"] = [result, *arguments]
    return found


def values(text: str) -> dict[str, int]:
    """Return the numbers of enumerations, by name."""
    return {name: int(number) for name, number in _VALUE.findall(text)}
