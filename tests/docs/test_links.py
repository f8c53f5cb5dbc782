"""Every page is reachable, and every link between pages leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def links(page: Path) -> list[Path]:
    found = re.findall(r"\]\(([^)#\s]+\.(?:md|py))[^)]*\)", page.read_text(encoding="utf-8"))
    return [(page.parent / link).resolve() for link in found if "://" not in link]


def test_every_link_leads_to_a_file() -> None:
    dead = [(str(page), str(link)) for page in PAGES for link in links(page) if not link.exists()]
    assert not dead


def test_every_page_is_reachable_from_the_readme() -> None:
    seen: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in seen and page.suffix == ".md":
            seen.add(page)
            waiting += links(page)
    assert {page.resolve() for page in PAGES} <= seen
