"""Tells modules of libraries from the user's own, and finds the versions of libraries."""

from __future__ import annotations

import functools
import importlib.util
import sys
import sysconfig
from types import ModuleType
from typing import Any


def top_of(module: Any) -> str | None:
    """The first part of a module's name."""
    return module.partition(".")[0] if isinstance(module, str) else None


def is_library(module: Any, own: str | None) -> bool:
    """Whether a module is Python's, Cascade's, or installed in another package than ``own``."""
    if not isinstance(module, str):
        return False
    top = module.partition(".")[0]
    return _comes_with_python(top) or (top != own and _is_installed(top))


def wrapped_by(value: Any) -> Any:
    """The object that a library's object wraps, as in ``inspect.unwrap``; None if it has none."""
    try:
        return object.__getattribute__(value, "__wrapped__")
    except Exception:
        return None


@functools.cache
def version_of(top: str) -> str:
    """``name==version`` of the distribution that a package of a library belongs to.

    Python's own modules belong to ``python``. A package without a distribution counts by its name.
    """
    from importlib import metadata  # 20 ms

    if top in sys.stdlib_module_names:
        return f"python=={sys.version_info[0]}.{sys.version_info[1]}"
    name = "cascade-spec" if top == "cascade" else top
    try:
        return f"{name}=={metadata.version(name)}"
    except metadata.PackageNotFoundError:
        pass  # a distribution of another name; finding it means to read all of them: 100 ms
    for found in metadata.packages_distributions().get(top, ()):
        return f"{found}=={metadata.version(found)}"
    return top


@functools.cache
def _comes_with_python(top: str) -> bool:
    """Whether it belongs to the standard library or to Cascade."""
    return top == "cascade" or (top in sys.stdlib_module_names and top != "__main__")


@functools.cache
def _places_of_libraries() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return tuple({paths["purelib"], paths["platlib"]})


#: Package → whether it is installed, of those that were found.
_installed: dict[str, bool] = {}


def _is_installed(top: str) -> bool:
    """Whether a package lies where installers put them; it need not be imported."""
    known = _installed.get(top)
    if known is None:
        places = _places_of(top)
        known = any(str(place).startswith(_places_of_libraries()) for place in places)
        if places:
            _installed[top] = known
    return known


def _places_of(top: str) -> list[object]:
    """The files or folders of a package; none if it is not there, or was made by a program."""
    module = sys.modules.get(top)
    if isinstance(module, ModuleType):
        scope = vars(module)
        return [*(scope.get("__path__") or ()), scope.get("__file__") or ""]
    try:
        spec = importlib.util.find_spec(top)  # finds it, without executing anything of it
    except (ImportError, ValueError):
        return []
    return [] if spec is None else [*(spec.submodule_search_locations or ()), spec.origin or ""]
