"""Faults of providers: the errors for them, and how several of them are raised (M7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from cascade.runtime.diagnostics.error_notes import add_note, notes_of
from cascade.spec.callsite import CallSite
from cascade.spec.errors import ResourceError, ResourceTimeoutError
from cascade.spec.resource import ResourceDefinition
from cascade.spec.wording import error_text

#: What becomes of a plain provider that takes too long.
ON_ITS_THREAD: Final = "it goes on in its thread, because a plain function cannot be stopped"


def yielded_nothing(definition: ResourceDefinition[Any]) -> ResourceError:
    """The error for a provider that ends without a resource."""
    return ResourceError(
        f"the provider of '{definition.name}' did not yield; it is written at {definition.place}"
    )


def yielded_twice(definition: ResourceDefinition[Any]) -> ResourceError:
    """The error for a provider that does not end where it should close."""
    return ResourceError(
        f"the provider of '{definition.name}' yielded a second time; it must yield once, and is "
        f"written at {definition.place}"
    )


def cancelled_itself(definition: ResourceDefinition[Any], error: BaseException) -> ResourceError:
    """The error for a CancelledError of a provider that was not cancelled.

    Unchanged, that would look as if the run had been cancelled.
    """
    found = ResourceError(
        f"the provider of '{definition.name}' raised CancelledError, but its run was "
        "not cancelled: it awaits a cancelled future; catch that error around the await (it is "
        f"written at {definition.place})"
    )
    found.__cause__ = error  # not raised here
    for note in notes_of(error):
        add_note(found, note)
    return found


def too_late(
    definition: ResourceDefinition[Any], generator: Any, timeout: float, opened: bool, fate: str
) -> ResourceTimeoutError:
    """The error for a provider that takes too long; to be made while it still does."""
    name, done = definition.name, "closing" if opened else "opening"
    error = ResourceTimeoutError(
        f"{done} the resource '{name}' took longer than the {timeout:g} s of its "
        f"teardown_timeout{'' if opened else ' after the run had ended'}; it stands at "
        f"{_standing(generator) or definition.place}, and {fate}",
        timeout,
    )
    add_note(error, f"while {done} the resource '{name}'")
    return error


def _standing(generator: Any) -> str:
    """The current line of a provider's generator, ``file.py:12``."""
    frame = getattr(generator, "ag_frame", None) or getattr(generator, "gi_frame", None)
    if frame is None or frame.f_lineno is None:
        return ""
    return str(CallSite(frame.f_code.co_filename, frame.f_lineno))


def raise_all(failures: Sequence[BaseException], error: BaseException | None) -> None:
    """Raise the failures of closing, in a group if there are several.

    If ``error`` has ended the use of the resources, they become notes on it instead.

    Raises:
        KeyboardInterrupt, SystemExit: Closing raised it.
    """
    if error is not None:
        for late in failures:
            where = " ".join(notes_of(late))
            add_note(error, f"also, {where}: {error_text(late)}")
        for late in failures:
            if isinstance(late, (KeyboardInterrupt, SystemExit)):
                raise late
    elif len(failures) == 1:
        raise failures[0]
    elif failures:
        raise BaseExceptionGroup("resources failed to close", failures)
