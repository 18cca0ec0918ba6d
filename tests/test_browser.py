"""The book as a reader sees it: headless Chromium with the network cut."""

import csv
import functools
import http.server
import os
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, sync_playwright

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
if CHROMIUM is None and not os.environ.get("HVIB_REQUIRE_BROWSER"):
    pytest.skip("no Chromium on the path", allow_module_level=True)

TOC = Path(__file__).parents[1] / "_toc.yml"
PAGES = re.findall(r"(?:file|root): (\S+)", TOC.read_text())


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(book: Path) -> Iterator[str]:
    handler = functools.partial(Quiet, directory=str(book))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as p:
        flags = ["--no-sandbox", "--disable-background-networking", "--disable-sync"]
        browser = p.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


class Visit:
    """A page opened with everything but the book itself out of reach."""

    def __init__(
        self, browser: Browser, site: str, name: str, width: int = 1280, dark: bool = False
    ):
        self.outside: list[str] = []
        self.errors: list[str] = []
        self.page: Page = browser.new_page(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light"
        )

        def guard(route: Route) -> None:
            if route.request.url.startswith((site, "data:", "blob:")):
                route.continue_()
            else:
                self.outside.append(route.request.url)
                route.abort()

        self.page.route("**/*", guard)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on(
            "response",
            lambda r: self.errors.append(f"{r.status} {r.url}") if r.status >= 400 else None,
        )
        self.page.goto(f"{site}/{name}.html", wait_until="load")
        self.page.wait_for_timeout(300)


@pytest.mark.parametrize("name", PAGES)
def test_page_reads_offline_with_its_formulas_typeset(
    browser: Browser, site: str, name: str
) -> None:
    visit = Visit(browser, site, name)
    page = visit.page
    if "reference" not in name:  # which lists the module, without a formula
        page.wait_for_selector("mjx-container", state="attached")
        assert page.locator(".math:not(:has(mjx-container))").count() == 0
        assert page.locator("mjx-merror").count() == 0
        fonts = page.evaluate(
            "[...document.fonts].filter(f => f.status == 'loaded').map(f => f.family)"
        )
        assert any("MJXTEX" in family for family in fonts)
    assert visit.outside == []
    assert visit.errors == []
    assert page.locator("article h1").first.is_visible()
    page.close()


@pytest.mark.parametrize("name", PAGES)
def test_page_fits_a_phone(browser: Browser, site: str, name: str) -> None:
    page = Visit(browser, site, name, width=390).page
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, scheme
    page.close()


def test_dark_mode_follows_the_reader_s_setting(browser: Browser, site: str) -> None:
    def brightness(dark: bool) -> float:
        page = Visit(browser, site, "notebooks/05-mnist", dark=dark).page
        color = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.close()
        channels = [float(c) for c in color.strip("rgba()").split(",")[:3]]
        return sum(channels) / 3

    assert brightness(dark=True) < 60 < 200 < brightness(dark=False)


def test_figure_data_downloads(browser: Browser, site: str, tmp_path: Path) -> None:
    page = Visit(browser, site, "notebooks/05-mnist").page
    with page.expect_download() as download:
        page.locator("a.hvib-data").first.click()
    download.value.save_as(tmp_path / "data.csv")
    rows = list(csv.DictReader((tmp_path / "data.csv").read_text().splitlines()))
    assert {row["split"] for row in rows} == {"train", "validation", "test"}
    assert all(row["record"].startswith("mnist/") for row in rows)
    page.close()


def test_search_finds_a_page(browser: Browser, site: str) -> None:
    page = Visit(browser, site, "search").page
    page.goto(f"{site}/search.html?q=papermill")
    page.wait_for_selector("#search-results li a")
    assert page.locator("#search-results li a").count() >= 1
    page.close()
