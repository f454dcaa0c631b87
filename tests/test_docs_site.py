"""The docs site, as far as it can be checked without a build: ``hatch run docs:build``."""

from __future__ import annotations

import re
from pkgutil import resolve_name

import pytest
from tests.pages import PAGES, ROOT, name_of
from tests.test_facade import PUBLIC

NAV = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
DOCUMENTED = {
    path: page
    for page in PAGES
    if page.parent.name == "reference"
    for path in re.findall(r"^::: ([\w.]+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
}


@pytest.mark.parametrize("name", PUBLIC)
def test_the_reference_has_every_public_name(name: str) -> None:
    home = PUBLIC[name]
    assert {f"{home}.{name}", f"cascade.{name}"} & DOCUMENTED.keys()


@pytest.mark.parametrize("path", DOCUMENTED)
def test_a_name_of_the_reference_is_there(path: str) -> None:
    assert resolve_name(path) is not None


def test_every_page_has_its_place_in_the_navigation_once() -> None:
    listed = re.findall(r"[\w/]+\.md", NAV)
    names = [name_of(page) for page in PAGES]
    pages = [name.removeprefix("docs/") for name in names if name.startswith("docs/")]
    assert sorted(listed) == sorted(pages)
