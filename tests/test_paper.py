"""Every numbered equation of the paper, once, under its number, and linked from the table."""

import re
from collections import Counter
from pathlib import Path

import nbformat
import pytest

from hvib.house.project import PROJECT

# Equations (18) to (29) are on the page of the linear theorem.
LINEAR = PROJECT / "notebooks" / "04-linear-theorem.ipynb"


NUMBERS = range(1, 30 if LINEAR.exists() else 18)


def prose(path: Path) -> str:
    if path.suffix == ".md":
        return path.read_text()
    cells = nbformat.read(path, as_version=4).cells
    return "\n\n".join(c.source for c in cells if c.cell_type == "markdown")


@pytest.fixture(scope="module")
def pages() -> dict[Path, str]:
    found = [
        path
        for pattern in ("book/*.md", "book/*.ipynb", "notebooks/*.ipynb")
        for path in PROJECT.glob(pattern)
    ]
    return {path: prose(path) for path in found}


def test_every_equation_has_its_label_and_its_number_once(pages: dict[Path, str]) -> None:
    text = "\n\n".join(pages.values())
    for kind in (r"^\(eq-(\d+)\)=$", r"\\tag\{(\d+)\}"):
        found = Counter(map(int, re.findall(kind, text, re.MULTILINE)))
        assert found == Counter(NUMBERS), kind
    for n in NUMBERS:  # the label stands right above the display that shows the number
        display = re.search(rf"^\(eq-{n}\)=\n(\$\$|\\begin)(.*?)(\n\n|\Z)", text, re.M | re.S)
        assert display
        assert rf"\tag{{{n}}}" in display[2]


def test_sphinx_gives_no_numbers_of_its_own(pages: dict[Path, str]) -> None:
    for path, text in pages.items():
        assert not re.search(r"\$\$ *\(|\{eq\}|\{numref\}", text), path
        assert not re.search(r"\\begin\{(align|equation|gather)\}", text), path
        for display in re.findall(r"\$\$(.*?)\$\$", text, re.S):  # Sphinx wraps these in split
            assert "\\tag" not in display or "\\\\" not in display, path


def test_the_table_links_every_equation_figure_and_claim() -> None:
    table = (PROJECT / "book" / "paper.md").read_text()
    for n in range(1, 30):
        assert f"[({n})](eq-{n})" in table
    for label in ("fig-system", "fig-hypernetwork", "fig-layer", "alg-1", "thm-1"):
        assert label in table
    claims = re.findall(r"^\| (\d) \|", table, re.M)
    assert claims == [str(k) for k in range(1, 10)]
