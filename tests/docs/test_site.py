"""The pages: lines that fit, links that lead somewhere, and a built site that asks nobody for anything.

The site itself is built by ``.ci/run``, which names its folder in ``$CONTRACTIVE_GNN_SITE``; elsewhere those tests are
skipped.
"""

from __future__ import annotations

import os
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[2]
MADE = {"gallery", "generated"}  # what a build leaves in docs/


def pages() -> list[Path]:
    """Every page that is written by hand."""
    return [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
        *(page for page in sorted((ROOT / "docs").rglob("*.md")) if not MADE & set(page.parts)),
    ]


def test_lines_are_at_most_120_characters_long() -> None:
    scripts = [script for script in (ROOT / "docs").rglob("*.py") if not MADE & set(script.parts)]
    long = [
        f"{page.relative_to(ROOT)}:{number} has {len(line)}"
        for page in [*pages(), *scripts]
        for number, line in enumerate(page.read_text("utf-8").splitlines(), 1)
        if len(line) > 120
    ]
    assert long == []


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub, and the site, give to the headings of a page."""
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_anchor_is_a_heading() -> None:
    shown = 0
    for page in pages():
        text = page.read_text("utf-8")
        targets = re.findall(r"\]\(([^)\s]*)#([^)\s]+)\)", text) + re.findall(r"^\[\w+\]: (\S*)#(\S+)$", text, re.M)
        for target, anchor in targets:
            if not target.startswith("http"):
                file = page.parent / target if target else page
                assert anchor in anchors(file), f"{page.name} links to {target}#{anchor}"
                shown += 1
    assert shown > 10


class Reader(HTMLParser):
    """What a page has, links to, and loads."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Called for each element."""
        given = {name: value for name, value in attrs if value}
        self.ids |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") in ("stylesheet", "preload", "icon", "preconnect", "dns-prefetch"):
            self.loads.append(given.get("href", ""))
        elif tag in ("script", "img", "iframe", "source", "video") and "src" in given:
            self.loads.append(given["src"])


@cache
def read(page: Path) -> Reader:
    reader = Reader()
    reader.feed(page.read_text("utf-8"))
    return reader


@pytest.fixture(scope="module")
def site() -> Path:
    folder = os.environ.get("CONTRACTIVE_GNN_SITE")
    if not folder:
        pytest.skip("no site is built: sphinx-build docs FOLDER, and name it in $CONTRACTIVE_GNN_SITE")
    return Path(folder)


def built(site: Path) -> list[Path]:
    found = [page for page in sorted(site.rglob("*.html")) if "_static" not in page.parts]
    assert len(found) > 400
    return found


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    for page in built(site):
        for load in read(page).loads:
            parts = urlsplit(load)
            assert not parts.netloc, f"{page.name} loads {load}"
            if parts.scheme != "data":
                assert (page.parent / unquote(parts.path)).is_file(), f"{page.name} loads {load}, which is not there"
    for sheet in site.rglob("*.css"):
        for address in re.findall(r"url\(['\"]?([^'\")]+)|@import ['\"]([^'\"]+)", sheet.read_text("utf-8")):
            assert not urlsplit("".join(address)).netloc, f"{sheet.name} loads {address}"


def test_every_link_within_the_site_leads_somewhere(site: Path) -> None:
    for page in built(site):
        if page.name in ("search.html", "genindex.html"):
            continue
        for link in read(page).links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = page.parent / unquote(parts.path) if parts.path else page
            assert target.exists(), f"{page.relative_to(site)} links to {link}"
            # a page of source code names a class by where it is defined, and leads to the top of its page
            if parts.fragment and target.suffix == ".html" and "_modules" not in page.relative_to(site).parts:
                assert unquote(parts.fragment) in read(target.resolve()).ids, f"{page.relative_to(site)}: {link}"


def test_every_public_name_has_a_page_with_an_example(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "_extensions"))
    import public

    for name in set(public.homes().values()):
        page = site / "api" / "generated" / f"{name}.html"
        assert page.is_file(), f"{name} has no page"
        assert "&gt;&gt;&gt;" in page.read_text("utf-8"), f"the page of {name} has no example"


def test_mathematics_is_set_by_a_script_of_the_site(site: Path) -> None:
    page = (site / "api" / "generated" / "contractive_gnn.nn.Flow.html").read_text("utf-8")
    assert 'class="math' in page
    assert re.search(r'src="[./]*_static/mathjax/[\w-]+\.js', page)
