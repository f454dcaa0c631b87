"""Files of this folder, and the libraries that pictures need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.resources import files


@cache
def asset(name: str) -> str:
    """A file of this package, such as a style sheet."""
    return files("cascade.observatory.pictures").joinpath(name).read_text(encoding="utf-8")


@contextmanager
def needs_plots() -> Iterator[None]:
    """Around an import of what ``cascade-observatory[plots]`` installs.

    Raises:
        ModuleNotFoundError: It is not installed; the message names the extra.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'pictures need {error.name}: pip install "cascade-observatory[plots]"', name=error.name
        ) from error
