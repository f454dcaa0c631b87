"""Imports: found wherever they stand, and resolved as Python would."""

from pathlib import Path

import pytest

from cascade.observatory.experiments.imports import Import, absolute_name, imports_in, resolve
from cascade.observatory.experiments.source_tree import Module

KNOWN = {"top", "pkg", "pkg.sub", "pkg.sub.leaf", "pkg.other"}
PACKAGE = Module("pkg.sub", Path("pkg/sub/__init__.py"), is_package=True)
LEAF = Module("pkg.sub.leaf", Path("pkg/sub/leaf.py"), is_package=False)


def test_finds_imports_in_every_kind_of_block():
    source = b"""\
import a
try:
    import b
except ImportError:
    import c
else:
    import d
finally:
    import e
if a:
    import f
elif b:
    import g
for _ in a:
    import h
while a:
    import i
with a:
    import j
match a:
    case 1:
        import k
class K:
    def method(self):
        async def inner():
            import l
        return lambda: 0
"""
    assert [found.base for found in imports_in(source)] == list("abcdefghijkl")


def test_keeps_dots_names_and_lines():
    source = b"import os.path as p, re\n\nfrom .. import x, y\nfrom .a import *\n"
    assert imports_in(source) == [
        Import(0, "os.path", None, 1),
        Import(0, "re", None, 1),
        Import(2, "", "x", 3),
        Import(2, "", "y", 3),
        Import(1, "a", "*", 4),
    ]


def test_honours_the_coding_cookie():
    assert imports_in("# coding: latin-1\nname = 'é'\nimport a\n".encode("latin-1"))


@pytest.mark.parametrize("source", [b"def f(:", b"x = '\xff'", b"x = 1\0"])
def test_a_source_that_does_not_parse_is_an_error(source):
    with pytest.raises((SyntaxError, ValueError)):
        imports_in(source)


@pytest.mark.parametrize(
    ("importer", "statement", "target"),
    [
        (LEAF, (0, "top", None), "top"),
        (LEAF, (0, "pkg.sub.leaf", None), "pkg.sub.leaf"),
        (LEAF, (0, "pkg.sub", "leaf"), "pkg.sub.leaf"),
        (LEAF, (0, "pkg.sub", "VERSION"), "pkg.sub"),
        (LEAF, (0, "pkg.sub", "*"), "pkg.sub"),
        (LEAF, (0, "pkg.gone.far", None), "pkg"),
        (LEAF, (0, "sys", None), None),
        (LEAF, (0, "sub", "leaf"), None),  # not relative since Python 3
        (LEAF, (1, "", "leaf"), "pkg.sub.leaf"),
        (LEAF, (1, "", "anything"), "pkg.sub"),
        (LEAF, (2, "", "other"), "pkg.other"),
        (LEAF, (2, "other", "name"), "pkg.other"),
        (LEAF, (3, "", "top"), None),  # above the top: Python raises ImportError
        (LEAF, (9, "", "top"), None),
        (PACKAGE, (1, "", "leaf"), "pkg.sub.leaf"),
        (PACKAGE, (1, "leaf", "name"), "pkg.sub.leaf"),
        (PACKAGE, (2, "", "other"), "pkg.other"),
        (PACKAGE, (3, "", "top"), None),
    ],
)
def test_resolves_to_the_longest_known_name(importer, statement, target):
    assert resolve(Import(*statement, line=1), importer, KNOWN) == target


def test_the_absolute_name_of_a_relative_import():
    assert absolute_name(Import(2, "other", "name", 1), LEAF) == "pkg.other.name"
