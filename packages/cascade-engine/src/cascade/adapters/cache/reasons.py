"""Reasons: what has changed since the values of a task were kept, down to lines of source."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from types import FunctionType, ModuleType
from typing import Any, Final, NamedTuple

from cascade.adapters.cache.by_code import components_of
from cascade.adapters.cache.entries import Entries, Found
from cascade.graph.call_keys import CallKey
from cascade.graph.codehash import CodeHash, Difference, differences
from cascade.spec.callsite import CallSite

#: The newest entries of a task that are compared.
_COMPARED: Final = 1_000
#: Most changes that are told of one node.
_TOLD: Final = 3
#: The component for Python itself.
_PYTHON: Final = "bytecode"


class Reason(NamedTuple):
    """Why a call has no entry.

    Attributes:
        text: A clause.
        argument: The parameter whose argument has changed, if it is one alone.
    """

    text: str
    argument: str | None = None


def why_not(entries: Entries, key: CallKey) -> Reason:
    """Why a call has no entry, by comparison with those that its task has."""
    known = entries.of_task(key.task, _COMPARED)
    if not known:
        return Reason("the cache has no value of this task")
    nearest = max(known, key=lambda found: (_equal_arguments(found, key), found.computed))
    alike = [found for found in known if found.code == key.code.digest]
    if alike:
        nearest = max(alike, key=lambda found: (_equal_arguments(found, key), found.computed))
        return _other_arguments(nearest, key)
    text = entries.components(nearest.code)
    if text is None:
        return Reason("its code changed")
    return Reason(_other_code(components_of(text), key.code))


def not_tracked(code: CodeHash) -> Sequence[str]:
    """What a task's code names, and its hash does not have: ``flows:client (HttpClient)``."""
    return [f"{name} ({kind.rpartition(':')[2]})" for name, kind in code.untracked.items()]


def _equal_arguments(found: Found, key: CallKey) -> int:
    args: Mapping[str, str] = json.loads(found.args)
    return sum(args.get(name) == part.hex() for name, part in key.args.items())


def _other_arguments(found: Found, key: CallKey) -> Reason:
    args: Mapping[str, str] = json.loads(found.args)
    changed = [name for name, part in key.args.items() if args.get(name) != part.hex()]
    if not changed:
        return Reason("it was kept under another version")
    names = " and ".join(f"'{name}'" for name in changed[:_TOLD])
    more = f" and {len(changed) - _TOLD} more" if len(changed) > _TOLD else ""
    text = f"its argument{'s' * (len(changed) > 1)} {names}{more} changed"
    return Reason(text, changed[0] if len(changed) == 1 else None)


def _other_code(old: CodeHash, new: CodeHash) -> str:
    if old.components.get(_PYTHON) != new.components.get(_PYTHON):
        return f"it was computed by {_python(old)}, and this is {_python(new)}"
    changed = differences(old, new)
    if not changed:
        return "its version changed"
    told = [_told(each) for each in changed[:_TOLD]]
    more = f"; and {len(changed) - _TOLD} more" if len(changed) > _TOLD else ""
    return "; ".join(told) + more


def _python(code: CodeHash) -> str:
    name, _, magic = code.components.get(_PYTHON, "another Python").partition(" ")
    return f"{name} with the bytecode {magic}" if magic else name


def _told(each: Difference) -> str:
    place = _place(each.name)
    path = " -> ".join(_short(name) for name in each.path.split(" -> ")) if each.path else ""
    used = f", used by {path}" if path else ""
    return f"{_short(each.name)} {each.what}{f' ({place})' if place else ''}{used}"


def _short(name: str) -> str:
    """``helpers.scale`` for ``helpers:scale (value)``."""
    name = name.removesuffix(" (value)").removesuffix(" (type)")
    return name.replace(":", ".", 1)


def _place(name: str) -> CallSite | None:
    """The line where a function, a class or a global name is defined, as far as that is known."""
    module_name, colon, path = name.partition(":")
    module = sys.modules.get(module_name) if colon else None
    if not isinstance(module, ModuleType):
        return None
    path = path.partition(" (")[0]
    try:
        found: Any = reduce(_inside, path.split("."), module)
    except (AttributeError, KeyError):
        return None
    found = getattr(found, "func", found)
    found = getattr(found, "__func__", found)
    if isinstance(found, property) and found.fget is not None:
        found = found.fget
    if isinstance(found, FunctionType):
        return CallSite(found.__code__.co_filename, found.__code__.co_firstlineno)
    file = getattr(module, "__file__", None)
    if file is None:
        return None
    return next(_lines_with(file, path.rpartition(".")[2]), None)


def _inside(owner: Any, name: str) -> Any:
    return vars(owner)[name]


def _lines_with(file: str, name: str) -> Iterator[CallSite]:
    """The lines of a file that define a name."""
    import linecache

    linecache.checkcache(file)
    pattern = re.compile(rf"\s*(class\s+{re.escape(name)}\b|{re.escape(name)}\s*(:[^=]*)?=[^=])")
    for number, line in enumerate(linecache.getlines(file), 1):
        if pattern.match(line):
            yield CallSite(file, number)
