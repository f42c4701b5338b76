"""Records what Apple's headers say of the messages and numbers that the Metal backend uses.

`python -m recorders.metal_api FOLDER SOURCE ../tests/data/metal_api.json`: the folder holds
metal-cpp (`Foundation/`, `Metal/`), such as the one in the macOS wheel of mlx-metal; SOURCE says
where it is from.
"""

import json
import re
import sys
from pathlib import Path

import metal_api

_METHOD = re.compile(
    r"_(?:NS|MTL)_INLINE [^;{}]*?\b(NS|MTL)::(\w+)(?:<[^<>]*>)?::\w+\(([^{};]*)\)(?: const)?\s*\{"
    r"\s*(?:return )?(?:Object::)?sendMessage(?:Safe)?<([^()]+)>\("
    r"[^;]*?_(?:NS|MTL)_PRIVATE_SEL\((\w+)\)([^;]*)\);"
)
_SELECTOR = re.compile(r"_(?:NS|MTL)_PRIVATE_DEF_SEL\((\w+),\s*\"([\w:]+)\"\)")
_ENUM = re.compile(r"_(NS|MTL)_(?:ENUM|OPTIONS)\(NS::(\w+), (\w+)\)\s*\{([^}]*)\}")
_PLAIN = {"void", "bool", "SEL", "void *", "const void *", "const char *", "uint64_t"}


class Headers:
    """The text of metal-cpp, and what is read out of it."""

    def __init__(self, folder: Path) -> None:
        paths = sorted(
            path for part in ("Foundation", "Metal") for path in (folder / part).rglob("*")
        )
        self.text = "\n".join(path.read_text() for path in paths if path.suffix == ".hpp")
        self.selectors = dict(_SELECTOR.findall(self.text))
        self.enums: dict[str, str] = {}
        self.values: dict[str, int] = {}
        for space, kind, name, body in _ENUM.findall(self.text):
            self.enums[name] = f"NS{kind}"
            for member, number in re.findall(r"(\w+) = ([\d< ]+),", body):
                base, _, shift = number.partition("<<")
                self.values[f"{space}{member}"] = int(base) << int(shift or 0)

    def kind(self, text: str) -> str:
        """Return a type as C without Apple's headers has it."""
        text = re.sub(r"\b(?:NS|MTL)::", "", " ".join(text.split())).replace("*", " *")
        text = " ".join(text.replace("* *", "**").split())
        if text in _PLAIN:
            return text
        if text in ("UInteger", "Integer"):
            return f"NS{text}"
        if text in ("GPUAddress", "Size"):
            return {"GPUAddress": "uint64_t", "Size": "MTLSize"}[text]
        if re.fullmatch(r"(?:const )?(?:class )?\w+ \*", text):
            return "id"
        if re.fullmatch(r"\w+ \*\*", text):
            return "id *"
        if re.fullmatch(r"const \w+ \* const \[\]", text):
            return "const id *"
        return self.enums[text]

    def messages(self) -> dict[str, list[str]]:
        """Return result and arguments of every method whose types are known."""
        found = {}
        for space, name, parameters, result, accessor, sent in _METHOD.findall(self.text):
            receiver = "NSObject" if name == "Referencing" else f"{space}{name}"
            types = dict(map(_parameter, parameters.split(",")))
            try:
                kinds = [self.kind(types[each.strip()]) for each in sent.split(",")[1:]]
                found[f"{receiver} {self.selectors[accessor]}"] = [self.kind(result), *kinds]
            except KeyError:  # blocks, templates: the backend uses none
                continue
        return found


def _parameter(text: str) -> tuple[str, str]:
    """Return name and type; of what is no plain parameter, nothing."""
    match = re.fullmatch(r"\s*(.*?)(\w+)(\[\])?\s*", text, re.DOTALL)
    return (match[2], match[1] + (match[3] or "")) if match else ("", "")


def main(folder: str, source: str, out: str) -> None:
    """Write what the headers say of what the backend names."""
    headers, own = Headers(Path(folder)), metal_api.HEADER.read_text()
    known = headers.messages()
    record = {
        "source": source,
        "messages": {name: known.get(name) for name in sorted(metal_api.messages(own))},
        "values": {name: headers.values.get(name) for name in sorted(metal_api.values(own))},
    }
    Path(out).write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
