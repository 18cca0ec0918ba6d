"""What a page shows beside its figures: tables, downloads, and the numbers that it quotes."""

import base64
import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from IPython.display import HTML, Markdown
from myst_nb import glue

from hvib.book.parameters import Parameters


def download(rows: Sequence[Mapping[str, Any]], name: str) -> HTML:
    """A link that saves the rows behind a figure as `<name>.csv`, held in the page itself."""
    text = io.StringIO()
    columns = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    data = base64.b64encode(text.getvalue().encode()).decode()
    return HTML(
        f'<a class="hvib-data" download="{escape(name)}.csv" '
        f'href="data:text/csv;base64,{data}">Data of this figure (CSV, {len(rows)} rows)</a>'
    )


def table(rows: Iterable[Mapping[str, Any]]) -> Markdown:
    """Rows of ready text as a table; the first row's keys are the columns."""
    rows = list(rows)
    columns = list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(str(row[column]) for column in columns) + " |" for row in rows]
    return Markdown("\n".join(lines))


def quote(page: str, facts: Mapping[str, Any]) -> Markdown:
    """Make facts quotable in a page's sentences as `page-name`, and list them."""
    for name, value in facts.items():
        glue(f"{page}-{name}", value, display=False)
    return table({"name": f"{page}-{name}", "number": value} for name, value in facts.items())


def rerun_note(
    parameters: Parameters, dataset: str, seeds: tuple[int, ...] = ()
) -> Markdown | None:
    """What tells a rerun from the page as it is committed; nothing for that.

    Args:
        parameters: of this execution.
        dataset, seeds: the page's own; the others are the same on all pages.
    """
    own = {"dataset": dataset, "profile": "full", "seeds": seeds, "snr_db": 20.0}
    own |= {"beta_min": 1e-6, "beta_max": 1.0}
    changed = {name: getattr(parameters, name) for name, value in own.items()}
    changed = {name: value for name, value in changed.items() if value != own[name]}
    if not changed:
        return None
    told = ", ".join(f"`{name} = {value}`" for name, value in changed.items())
    return Markdown(
        f"**A rerun with {told}.** Its figures, tables and numbers are of these settings; the "
        "sentences around them were written for the recorded ones, and name their β, epochs and "
        "seeds. A number within a sentence stands here as {glue:text} and its name; the hidden "
        "cell at the end of each section lists that section's numbers."
    )
