"""The CSV files with results, one per machine."""

import csv
import datetime
import re
from dataclasses import astuple, dataclass, fields
from pathlib import Path

FOLDER = Path(__file__).with_name("results")


@dataclass(frozen=True)
class Row:
    """One measurement: tokens per second (bytes or products per second of a machine)."""

    date: str
    machine: str
    commit: str
    model: str
    case: str
    contestant: str
    median: float
    min: float
    max: float
    rounds: int


def now() -> str:
    """Return the time in UTC, to the minute."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%MZ")


def append(rows: list[Row]) -> Path:
    """Add rows to their machine's file and return its path."""
    slug = re.sub(r"[^a-z0-9]+", "-", rows[0].machine.lower()).strip("-")
    path = FOLDER / f"{slug}.csv"
    is_new = not path.exists()
    FOLDER.mkdir(exist_ok=True)
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        if is_new:
            writer.writerow([field.name for field in fields(Row)])
        for row in rows:
            values = [f"{v:.6g}" if isinstance(v, float) else v for v in astuple(row)]
            writer.writerow(values)
    return path


def read(path: Path) -> list[Row]:
    """Return the rows of a file, oldest first."""
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Row(r["date"], r["machine"], r["commit"], r["model"], r["case"], r["contestant"],
                float(r["median"]), float(r["min"]), float(r["max"]), int(r["rounds"]))
            for r in csv.DictReader(file)
        ]  # fmt: skip
