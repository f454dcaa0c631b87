"""Options of a run that are stored with it, for the processes that take it over."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from cascade.runtime.options import DEFAULTS, RunSettings

_OTHERS: Final = ("use_vm", "fail_fast")
_STORED: Final = (*_OTHERS, "deadline", "max_steps", "max_rounds")
#: Least seconds that a run has which is taken over after its deadline: then it ends at once.
_OVER: Final = 0.001


def options_of(how: RunSettings) -> dict[str, Any]:
    """The options to store: those that are not the defaults."""
    found = {name: getattr(how, name) for name in _STORED}
    return {name: value for name, value in found.items() if value != getattr(DEFAULTS, name)}


def stored_options(code: bytes, has_ended: bool = False) -> dict[str, Any]:
    """The options in the identity of a stored run (``NewRun.code``).

    Args:
        code: The identity.
        has_ended: Without the limits, which may have ended the run.
    """
    found: Mapping[str, Any] = json.loads(code).get("options", {}) if code else {}
    wanted = _OTHERS if has_ended else _STORED
    return {name: value for name, value in found.items() if name in wanted}


def without_limits(code: bytes) -> bytes:
    """An identity without the limits in it: those of another run."""
    document = json.loads(code) if code else {}
    if "options" not in document:
        return code
    document["options"] = stored_options(code, has_ended=True)
    return json.dumps(document, separators=(",", ":")).encode()


def left_at(options: Mapping[str, Any], since: float) -> dict[str, Any]:
    """Options with the rest of the deadline of a run that began ``since`` seconds ago."""
    if "deadline" not in options:
        return {**options}
    return {**options, "deadline": max(options["deadline"] - since, _OVER)}
