"""Errors of other processes: as bytes, and as exceptions again, with their tracebacks.

An exception is made again from its class, its arguments and its attributes; its own ``__init__`` is
not called, as its parameters are unknown. Parts that cannot be sent are replaced by their ``repr``
or left out, which a note says. An exception whose class is not known here becomes a RemoteError
with its text. Notes, causes, contexts, members of groups and frames are kept.
"""

from __future__ import annotations

from functools import cache
from types import MemberDescriptorType
from typing import Any, Final, TypeAlias

from cascade.spec.errors import RemoteError
from cascade.spec.rebuilt_errors import builtin_base, rebuilt
from cascade.spec.traces import Frame, frames_of, traceback_of
from cascade.spec.wire import dumps, loads, problem_of
from cascade.spec.wording import error_text, name_of

#: An exception as plain data.
Parts: TypeAlias = dict[str, Any]
#: Most causes of causes that are kept.
_DEEPEST: Final = 32


def dumps_error(error: BaseException) -> bytes:
    """``error`` as bytes. Never fails."""
    return dumps(_parts(error, _DEEPEST))


def loads_error(data: bytes) -> BaseException:
    """The exception of ``dumps_error``."""
    error = _made(loads(data))
    assert error is not None
    return error


def _parts(error: BaseException | None, deepest: int) -> Parts | None:
    if error is None or not deepest:
        return None
    kind = type(error)
    args, state = _content(error)
    notes = [str(note) for note in state.pop("__notes__", ())]
    lost = [name for name, value in state.items() if problem_of(value) is not None]
    for name in lost:
        del state[name]
    members = None
    if isinstance(error, BaseExceptionGroup):
        members = [_parts(member, deepest - 1) for member in error.exceptions]
        args = args[:1]
    if problem_of(args) is not None:
        args = tuple(v if problem_of(v) is None else _repr(v) for v in args)
        lost.append("args")
    if lost:
        notes.append(f"parts of it could not be sent to this process: {', '.join(lost)}")
    context = None if error.__context__ is error.__cause__ else error.__context__
    return {
        "kind": None if problem_of(kind) is not None else dumps(kind),
        "name": name_of(kind),
        "text": error_text(error),
        "args": dumps(args),
        "state": dumps(state),
        "notes": notes,
        "frames": [tuple(frame) for frame in frames_of(error.__traceback__)],
        "cause": _parts(error.__cause__, deepest - 1),
        "context": _parts(context, deepest - 1),
        "same": error.__context__ is error.__cause__,
        "hides": error.__suppress_context__,
        "members": members,
    }


def _content(error: BaseException) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of an exception, and its attributes."""
    try:
        base = builtin_base(type(error))
        _, args, *state = base.__reduce__(error)
        members = {name: getattr(error, name, None) for name in _members(base)}
        found = {name: value for name, value in members.items() if value is not None}
        return tuple(args), {**found, **(state[0] if state and state[0] else {})}
    except Exception:  # attributes of its own that fail
        return error.args, {}


@cache
def _members(base: type[BaseException]) -> list[str]:
    """The attributes that a builtin class keeps beside those of its objects.

    Not the object of an AttributeError, which may be anything.
    """
    kinds = [kind for kind in base.__mro__ if kind.__module__ == "builtins"]
    found = [n for kind in kinds for n, v in vars(kind).items() if type(v) is MemberDescriptorType]
    return [name for name in found if name not in _LEFT_OUT]


#: Attributes of builtin classes with another way, or none.
_LEFT_OUT: Final = frozenset({"obj", "__suppress_context__", "message", "exceptions"})


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception:
        return f"<{type(value).__name__}>"


def _made(parts: Parts | None) -> BaseException | None:
    if parts is None:
        return None
    try:
        error = _rebuilt(parts)
    except Exception as problem:
        error = RemoteError(parts["text"], parts["name"])
        error.add_note(f"it could not be made again in this process: {error_text(problem)}")
    cause = _made(parts["cause"])
    notes = [*getattr(error, "__notes__", ()), *parts["notes"]]
    own = {
        "__cause__": cause,
        "__context__": cause if parts["same"] else _made(parts["context"]),
        "__suppress_context__": parts["hides"],
        **({"__notes__": notes} if notes else {}),
    }
    # Not by assignment: an error that is a frozen dataclass refuses it.
    for name, value in own.items():
        BaseException.__setattr__(error, name, value)
    frames = [Frame(*frame) for frame in parts["frames"]]
    return BaseException.with_traceback(error, traceback_of(frames))


def _rebuilt(parts: Parts) -> BaseException:
    if parts["kind"] is None:
        raise TypeError(f"its class {parts['name']} cannot be sent")
    kind = loads(parts["kind"])
    args = loads(parts["args"])
    if parts["members"] is not None:
        args = (*args, [_made(member) for member in parts["members"]])
    return rebuilt(kind, list(args), loads(parts["state"]), None)
