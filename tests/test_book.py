"""The built book: strict, whole, and sufficient unto itself."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from hvib.house.project import PROJECT


class Page(HTMLParser):
    """What a page loads, links to and shows."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.ids: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        a = dict(attrs)
        if identity := a.get("id"):
            self.ids.add(identity)
        if tag in ("script", "img", "iframe", "source") and (source := a.get("src")):
            self.loads.append(source)
        if tag == "link" and a.get("rel") in ("stylesheet", "preload", "icon", "modulepreload"):
            self.loads.append(a.get("href") or "")
        if tag == "a" and (href := a.get("href")):
            self.links.append(href)
        if tag == "img":
            self.images.append(a)


@pytest.fixture(scope="module")
def pages(book: Path) -> dict[Path, Page]:
    found = [p for folder in ("book", "notebooks") for p in (book / folder).glob("*.html")]
    return {path: Page(path) for path in found}


def test_every_page_of_the_contents_is_built(pages: dict[Path, Page]) -> None:
    toc = re.findall(r"(?:file|root): (\S+)", (PROJECT / "_toc.yml").read_text())
    assert {f"{p.parent.name}/{p.stem}" for p in pages} == set(toc)
    on_disk = {
        f"{p.parent.name}/{p.stem}"
        for pattern in ("notebooks/*.ipynb", "book/*.ipynb", "book/*.md")
        for p in PROJECT.glob(pattern)
    }
    assert on_disk == set(toc)


def test_no_page_loads_anything_from_outside(pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        outside = [url for url in page.loads if re.match(r"(https?:)?//", url)]
        assert not outside, path


def test_links_within_the_book_lead_somewhere(pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        for link in page.links:
            if re.match(r"(https?|mailto|data|javascript):", link):
                continue
            target, _, anchor = unquote(link).partition("#")
            file = (path.parent / target).resolve() if target else path.resolve()
            assert file.exists(), f"{path.name}: {link}"
            known = {p.resolve(): q for p, q in pages.items()}
            if anchor and file in known:
                assert anchor in known[file].ids, f"{path.name}: {link}"


def test_figures_have_alt_text(pages: dict[Path, Page]) -> None:
    drawn = [i for page in pages.values() for i in page.images if "_images/" in (i["src"] or "")]
    assert len(drawn) >= 4
    for image in drawn:
        assert len(image.get("alt") or "") > 80


def test_numbers_in_prose_are_filled_in(book: Path) -> None:
    text = (book / "notebooks" / "05-mnist.html").read_text()
    assert "glue:text" not in text
    assert re.search(r"test accuracy in\s+[\d,]+ s", re.sub(r"<[^>]+>", "", text))


def test_the_repository_names_no_absolute_path() -> None:
    for pattern in ("book/*.md", "notebooks/*.ipynb", "hvib/*.py", "results/*/*/*.json", "*.md"):
        for path in PROJECT.glob(pattern):
            assert not re.search(r"(?<![\w.])/(root|home|work|Users)/", path.read_text()), path
