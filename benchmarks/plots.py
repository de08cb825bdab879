"""Pictures of the tables, where matplotlib is (the extra `bench`)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pgflow_starter.errors import MissingExtraError, installing

Rows = Iterable[dict[str, Any]]


def draw(tables: dict[str, list[dict[str, Any]]], folder: Path) -> list[Path]:
    """Write a PNG of each plot that there are figures for. Raises MissingExtraError without matplotlib."""
    _plotting()
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for table, title, x, y, logarithmic in (
        ("starting", "start → ready", "modules", "ms", True),
        ("throughput", "no-op jobs", "tasks at a time", "jobs a second", False),
    ):
        lines = series(tables.get(table, ()))
        if lines:
            path = folder / f"{table}.png"
            _draw(lines, path, title, (x, y), logarithmic=logarithmic)
            drawn.append(path)
    return drawn


def series(rows: Rows) -> dict[str, list[tuple[float, float]]]:
    """The points of each line, by x."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row["series"]:
            lines.setdefault(row["series"], []).append((row["x"], row["median"]))
    return {name: sorted(points) for name, points in lines.items()}


def _plotting() -> Any:
    try:
        import matplotlib as mpl
    except ImportError as error:
        msg = f"plots need matplotlib: {installing('bench')}"
        raise MissingExtraError(msg) from error
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    return plt


def _draw(
    lines: dict[str, list[tuple[float, float]]],
    path: Path,
    title: str,
    labels: tuple[str, str],
    *,
    logarithmic: bool,
) -> None:
    plt = _plotting()
    figure, axes = plt.subplots(figsize=(8, 5))
    for name, points in lines.items():
        style = "--" if name.startswith(("floor", "its ")) else "-"
        axes.plot([x for x, _ in points], [y for _, y in points], style, marker="o", label=name)
    if logarithmic:
        axes.set_xscale("log")
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set_title(title)
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
