"""Scores that were made before, as a table to keep and as a scoreboard on the terminal: no arithmetic is done here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

HEADLINES = {"emotion": ("war", "uar", "f1_weighted"), "value": ("ccc", "mae", "rmse")}


def headlines(task: str) -> tuple[str, ...]:
    """The metrics of a task that come first."""
    return HEADLINES["emotion" if task == "emotion" else "value"]


def write_scores_table(jsons: Sequence[Path], output: Path) -> None:
    """All tasks' scores as one tab-separated table, a row a task, protocol and metric; an empty cell is undefined.

    Rows of a baseline have its name behind the protocol's (``fold:linear``), those of the view of three classes
    ``polarity_`` before the metric's.
    """
    lines = ["\t".join(("task", "protocol", "metric", "mean", "sd", "value", "lo", "hi"))]
    for path in jsons:
        scores = json.loads(path.read_text(encoding="utf-8"))
        views = [("", scores)]
        if scores.get("polarity"):
            views.append(("polarity_", scores["polarity"]))
        for prefix, view in views:
            for name, protocols in {"": view["protocols"], **view["baselines"]}.items():
                for protocol, metrics in protocols.items():
                    for metric, row in metrics.items():
                        lo, hi = row.get("ci95") or (None, None)
                        numbers = (row.get("mean"), row.get("sd"), row.get("value"), lo, hi)
                        cells = ["" if number is None else repr(number) for number in numbers]
                        where = f"{protocol}:{name}" if name else protocol
                        lines.append("\t".join((scores["task"], where, f"{prefix}{metric}", *cells)))
    write_whole(output, "\n".join(lines) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8", newline="")
    new.replace(path)


# Narrow enough for a terminal of 80 columns, which is also what a log gets.
_COLUMNS = ("task", "metric", "fold±sd", "pooled [95 % CI]", "publ.", "const.", "linear")
_LEGEND = (
    "fold: mean over folds; pooled: all clips at once, interval over participants,",
    "given the trained models; publ.: mean over batches of 16, as published;",
    "baselines by fold: const. = majority class or training mean, linear = a linear",
    "model on simple summaries. Undefined (\u2013): the JSON says why.",
)


def print_scoreboard(scores: Sequence[dict[str, Any]], *, console: Console | None = None) -> None:
    """The headline metrics of all tasks, and what the guard against leaks found, on the terminal."""
    print_table(_COLUMNS, [_rows(one) for one in scores], notes=[*_LEGEND, *_verdicts(scores)], console=console)


def print_table(
    columns: Sequence[str],
    sections: Sequence[Sequence[Sequence[str]]],
    *,
    notes: Sequence[str],
    console: Console | None = None,
) -> None:
    """Sections of rows, two columns of words and then numbers, and notes below; without rich in plain text."""
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        _print_plainly([columns, *(row for section in sections for row in section)], notes)
        return
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for number, column in enumerate(columns):
        table.add_column(column, no_wrap=True, justify="left" if number < 2 else "right")
    for row in (row for section in sections for row in section):
        table.add_row(*(cell.replace("[", r"\[") for cell in row))
    console = console or Console()
    console.print(table)
    for note in notes:
        console.print(note, style="dim", markup=False, highlight=False)


def _rows(one: dict[str, Any]) -> list[list[str]]:
    protocols = one["protocols"]
    constant, linear = [*one["baselines"].values(), None][:2]
    rows = []
    for number, metric in enumerate(headlines(one["task"])):
        fold, pooled = protocols["fold"][metric], protocols["pooled"][metric]
        interval = pooled["ci95"]
        rows.append(
            [
                "" if number else one["task"],
                metric,
                show(fold["mean"]) + ("" if fold["sd"] is None else f"±{show(fold['sd'])}"),
                show(pooled["value"]) + ("" if interval is None else f" [{show(interval[0])},{show(interval[1])}]"),
                show(protocols["published"][metric]["mean"]),
                *(show(None if base is None else base["fold"][metric]["mean"]) for base in (constant, linear)),
            ]
        )
    return rows


def _verdicts(scores: Sequence[dict[str, Any]]) -> list[str]:
    """What the guard against leaks says, tasks of the same sentence together."""
    tasks: dict[str, list[str]] = {}
    for one in scores:
        tasks.setdefault(one["leaks"]["sentence"], []).append(one["task"])
    return [f"{', '.join(names)}: {sentence}" for sentence, names in tasks.items()]


def _print_plainly(rows: Sequence[Sequence[str]], notes: Sequence[str]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [cell.ljust(w) if n < 2 else cell.rjust(w) for n, (cell, w) in enumerate(zip(row, widths, strict=True))]
        print(" ".join(cells).rstrip())
    print("\n".join(notes))


def show(value: float | None) -> str:
    """A score as it is printed: three decimals, a dash where undefined."""
    return "\u2013" if value is None else f"{value:.3f}"
