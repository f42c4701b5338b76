"""Draw docs/speed.png from the newest comparison in bench/results: `python bench/plot.py [CSV]`."""

import argparse
from pathlib import Path
from typing import Any

import matplotlib
import results
from results import Row

matplotlib.use("Agg")
import matplotlib.pyplot as plt

TARGET = Path(__file__).parent.parent / "docs" / "speed.png"
COLORS = {"jitllm": "#2a6fbb", "llama.cpp": "#b9bec6"}
TITLES = {"pp": "prompt of {} tokens", "tg": "generation, {} tokens"}


def newest(rows: list[Row]) -> dict[tuple[str, str, str], Row]:
    """Return the last row of each model, case and contestant of the newest run."""
    last = max(row.date for row in rows)
    return {(r.model, r.case, r.contestant): r for r in rows if r.date == last and r.model}


def draw(axis: Any, rows: dict[tuple[str, str, str], Row], case: str) -> None:
    """Draw one panel: bars of both contestants for each model, with the range of the rounds."""
    models = list(dict.fromkeys(model for model, c, _ in rows if c == case))
    for i, (contestant, color) in enumerate(COLORS.items()):
        chosen = [rows[model, case, contestant] for model in models]
        at = [n + 0.38 * (0.5 - i) for n in range(len(models))]
        medians = [row.median for row in chosen]
        spread = [[r.median - r.min for r in chosen], [r.max - r.median for r in chosen]]
        axis.barh(at, medians, 0.36, xerr=spread, color=color, label=contestant,
                  error_kw={"elinewidth": 1, "ecolor": "#333333"})  # fmt: skip
        for y, row in zip(at, chosen, strict=True):
            axis.text(row.max, y, f" {row.median:.0f}", va="center", fontsize=8)
    axis.set_yticks(range(len(models)), models)
    axis.invert_yaxis()
    axis.set_xlim(0, 1.15 * max(row.max for (_, c, _), row in rows.items() if c == case))
    axis.set_xlabel("tokens per second")
    axis.set_title(TITLES[case[:2]].format(case[2:]), fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)


def main() -> None:
    """Draw the figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("csv", nargs="?", type=Path, help="default: the file changed last")
    path = parser.parse_args().csv or max(
        results.FOLDER.glob("*.csv"), key=lambda p: p.stat().st_mtime, default=None
    )
    if path is None:
        raise SystemExit("error: expected a CSV file in bench/results; run bench/compare.py first")
    rows = newest(results.read(path))
    cases = sorted({case for _, case, _ in rows})
    figure, axes = plt.subplots(1, len(cases), figsize=(10, 3.2), sharey=True, squeeze=False)
    for axis, case in zip(axes[0], cases, strict=True):
        draw(axis, rows, case)
    axes[0][-1].legend(frameon=False, fontsize=8, loc="upper right")
    some = next(iter(rows.values()))
    figure.suptitle(f"{some.machine}; median of {some.rounds} rounds, bars: range; "
                    f"commit {some.commit}", fontsize=8)  # fmt: skip
    figure.tight_layout()
    TARGET.parent.mkdir(exist_ok=True)
    figure.savefig(TARGET, dpi=150)
    print(f"drew {TARGET}")


if __name__ == "__main__":
    main()
