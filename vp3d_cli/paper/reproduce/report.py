"""Report of a reproduction as Markdown and self-contained HTML."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vp3d_cli import __version__
from vp3d_cli.io.atomic import replacing
from vp3d_cli.paper.datasets.archives import SYNTHETIC_NOTE
from vp3d_cli.paper.published import Published, published
from vp3d_cli.paper.reproduce.plots import draw_plots
from vp3d_cli.paper.reproduce.results import Results, RowResult
from vp3d_cli.paper.reproduce.table_rows import GROUPS, SEMI, UNLIKE_THE_PAPER, Row, all_rows

PAPER = (
    "Pavllo, Feichtenhofer, Grangier, Auli: 3D human pose estimation in video with temporal convolutions and "
    "semi-supervised training, CVPR 2019 (arXiv 1811.11742)"
)
_FIGURES = {"mpjpe": "MPJPE", "p_mpjpe": "P-MPJPE", "n_mpjpe": "N-MPJPE", "mpjve": "MPJVE"}
_STATUS = {"done": "", "skipped": "skipped: ", "failed": "failed: ", "waiting": "not finished"}


@dataclass(frozen=True)
class Table:
    """Table of a report.

    Attributes:
        header, rows: cells; the first ``text`` columns are text, the others numbers.
        text: number of text columns.
        remark: whether the last column is text as well.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    text: int = 1
    remark: bool = False

    def right(self, column: int) -> bool:
        """Return whether a column is aligned to the right."""
        return column >= self.text and not (self.remark and column == len(self.header) - 1)


@dataclass
class Document:
    """Content of a report.

    Attributes:
        parts: headings ("#..."), paragraphs, tables, and plots (name, title, PNG).
    """

    parts: list[str | Table | tuple[str, str, bytes]] = field(default_factory=list)

    def markdown(self) -> str:
        """Format as Markdown, with plots in ``plots/``."""
        blocks = []
        for part in self.parts:
            if isinstance(part, Table):
                rule = ["---:" if part.right(i) else "---" for i in range(len(part.header))]
                lines = [part.header, rule, *([cell.replace("|", "\\|") for cell in row] for row in part.rows)]
                blocks.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
            elif isinstance(part, tuple):
                blocks.append(f"![{part[1]}](plots/{part[0]}.png)")
            else:
                blocks.append(part)
        return "\n\n".join(blocks) + "\n"

    def html(self, title: str) -> str:
        """Format as one HTML file with embedded plots."""
        blocks = [_html(part) for part in self.parts]
        body = "\n".join(blocks)
        return (
            f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n'
            f'<meta name="viewport" content="width=device-width">\n<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n'
            "</body>\n</html>\n"
        )


_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 76rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.6rem; }
h2 { font-size: 1.2rem; margin-top: 2.2rem; }
p { max-width: 50rem; overflow-wrap: anywhere; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; }
th, td { padding: 0.25rem 0.7rem; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top; }
th { border-bottom: 2px solid #888; }
td:first-child, td:nth-child(2) { white-space: nowrap; }
td:last-child { overflow-wrap: anywhere; }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tbody tr:hover { background: #f3f6fa; }
img { max-width: 100%; height: auto; }
figure { margin: 1.5rem 0; }
figcaption { color: #555; font-size: 0.9rem; }
"""


def _html(part: str | Table | tuple[str, str, bytes]) -> str:
    if isinstance(part, Table):
        marks = [' class="n"' if part.right(i) else "" for i in range(len(part.header))]
        head = "".join(f"<th{m}>{html.escape(c)}</th>" for m, c in zip(marks, part.header, strict=True))
        rows = (
            "<tr>" + "".join(f"<td{m}>{html.escape(c)}</td>" for m, c in zip(marks, row, strict=True)) + "</tr>"
            for row in part.rows
        )
        body = "\n".join(rows)
        return f'<div class="table"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'
    if isinstance(part, tuple):
        _, title, png = part
        source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
        text = html.escape(title)
        return f'<figure><img src="{source}" alt="{text}"><figcaption>{text}</figcaption></figure>'
    level = len(part) - len(part.lstrip("#"))
    return f"<h{level}>{html.escape(part[level:].strip())}</h{level}>" if level else f"<p>{html.escape(part)}</p>"


def write_report(results: Results, folder: Path) -> Path:
    """Write ``report.md`` with its ``plots/``, ``report.html`` and ``results.json``.

    Args:
        results: results of the reproduction.
        folder: folder of the report.

    Returns:
        Path of ``report.html``.

    Raises:
        OutputError: a file cannot be written.
    """
    plots = draw_plots(results, folder)
    document = compose(results, plots)
    (folder / "plots").mkdir(exist_ok=True)
    page = folder / "report.html"
    files = {folder / "plots" / f"{name}.png": png for name, (_, png) in plots.items()}
    files[folder / "report.md"] = document.markdown().encode()
    files[page] = document.html("The paper, reproduced by vp3d").encode()
    results.write(folder)
    for path, content in files.items():
        with replacing(path, overwrite=True) as file:
            file.write(content)
    return page


def compose(results: Results, plots: dict[str, tuple[str, bytes]]) -> Document:
    """Compose the report; ``plots`` come from :func:`vp3d_cli.paper.reproduce.plots.draw_plots`."""
    sources: dict[str, int] = {}
    rows = [(row, results.rows[row.name]) for row in all_rows() if row.name in results.rows]
    done = sum(result.status == "done" for _, result in rows)
    document = Document(["# The paper, reproduced", _introduction(results, done, len(rows))])
    if "rows" in plots:
        document.parts.append(("rows", *plots["rows"]))
    for group in GROUPS:
        members = [(row, result) for row, result in rows if row.group == group]
        if members:
            document.parts += [f"## {group}", _table(members, sources)]
            document.parts += [UNLIKE_THE_PAPER] if group == SEMI else []
        after = {GROUPS[0]: "actions", GROUPS[3]: "labels"}.get(group, "")
        if members and after in plots:
            document.parts.append((after, *plots[after]))
    document.parts += _by_action(rows)
    document.parts.append("## How the models were trained")
    if "training" in plots:
        document.parts.append(("training", *plots["training"]))
    document.parts += _provenance(results, rows)
    if sources:
        listed = "; ".join(f"[{number}] {source}" for source, number in sources.items())
        document.parts += ["## Published numbers", f"{listed}. An empty cell: not reported."]
    return document


def _introduction(results: Results, done: int, rows: int) -> str:
    text = (
        f"Results of vp3d beside those of {PAPER}. {done} of {rows} rows are done. Errors are in millimetres, MPJVE in "
        "millimetres per frame, as means over the actions; lower is better. Root: error of the root joint."
    )
    if any(SYNTHETIC_NOTE in result.notes for result in results.rows.values()):
        text += " This is synthetic data: the results say nothing about the real data set and cannot be compared."
    counts = {"epoch": results.epochs, "channel": results.channels}
    unlike = [f"{n} {what}{'s' if n != 1 else ''}" for what, n in counts.items() if n is not None]
    if unlike:
        text += f" Trained with {' and '.join(unlike)}, unlike the paper: a trial that cannot be compared."
    return text


def _table(members: Sequence[tuple[Row, RowResult]], sources: dict[str, int]) -> Table:
    """Table of a group of rows; published columns appear if any row has such a figure."""
    known = {row.name: published(row.name) for row, _ in members}
    columns = [
        (name, theirs)
        for name in _FIGURES
        for theirs in (False, True)
        if not theirs or any(one is not None and name in one.figures for one in known.values())
    ]
    paths = any(result.trajectory is not None for _, result in members)
    header = ["", "row", *(f"{_FIGURES[name]}{', paper' if theirs else ''}" for name, theirs in columns)]
    header += (["root"] if paths else []) + ["source", "remarks"]
    lines = []
    for row, result in members:
        paper = known[row.name]
        cells = [row.title, row.name]
        for name, theirs in columns:
            value = (paper.figures.get(name, math.nan) if paper else math.nan) if theirs else result.figure(name)
            cells.append(_number(value))
        cells += [_number(result.trajectory)] if paths else []
        lines.append([*cells, _reference(paper, sources), f"{_STATUS[result.status]}{result.reason}"])
    return Table(header, lines, text=2, remark=True)


def _reference(paper: Published | None, sources: dict[str, int]) -> str:
    return "" if paper is None else f"[{sources.setdefault(paper.source, len(sources) + 1)}]"


def _number(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.{2 if abs(value) < 1 else 1}f}"


def _by_action(rows: Sequence[tuple[Row, RowResult]]) -> list[str | Table | tuple[str, str, bytes]]:
    """One table for each figure that is published by action."""
    parts: list[str | Table | tuple[str, str, bytes]] = []
    for figure, title in _FIGURES.items():
        header = ["action"]
        columns: list[list[str]] = []
        for row, result in rows:
            paper = published(row.name)
            if result.status != "done" or paper is None or figure not in paper.actions:
                continue
            cases = [*paper.actions[figure], "mean"]
            columns = columns or [cases]
            header += [row.title, "paper"]
            columns.append([_number(result.figure(figure, case)) for case in cases])
            columns.append([_number(paper.of(case).get(figure)) for case in cases])
        if columns:
            parts += [f"## {title} by action", Table(header, list(zip(*columns, strict=True)))]
    return parts


def _provenance(results: Results, rows: Sequence[tuple[Row, RowResult]]) -> list[str | Table | tuple[str, str, bytes]]:
    parts: list[str | Table | tuple[str, str, bytes]] = [
        f"By vp3d {__version__}, from the archives in {results.data}. Weights are those after the last epoch; they are "
        "in runs/, for --lifter and --weights."
    ]
    archives = [[name, sha256[:16]] for name, sha256 in sorted(results.archives.items())]
    if archives:
        parts.append(Table(["archive", "sha256"], archives, text=2))
    runs = [[run, f"{seconds / 60:.1f}"] for run, seconds in results.runs.items()]
    if runs:
        parts.append(Table(["training run", "minutes"], runs))
    notes = dict.fromkeys(note for _, result in rows for note in result.notes)
    return [*parts, *(f"{note}." for note in notes)]
