"""How errors are pickled and copied: with their attributes, notes, cause and context."""

from __future__ import annotations

import copyreg
from contextvars import ContextVar
from typing import Any

from cascade.spec.wording import error_text

#: Sets an attribute although a subclass, such as a frozen dataclass, refuses that.
set_attribute = BaseException.__setattr__


def remade(kind: type[Exception], args: tuple[Any, ...]) -> Exception:
    """An error without its state. ``__init__`` is not called, as its parameters are unknown."""
    builtin: Any = kind
    while builtin.__module__ != "builtins":
        builtin = builtin.__base__  # the one that defines its layout; kind.__new__ may be another's
    error: Exception = builtin.__new__(kind, *args)
    set_attribute(error, "args", args)  # OSErrors leave this to __init__
    return error


def state_of(error: Exception, stand_in: type[Exception]) -> dict[str, Any]:
    """Attributes, notes, cause and context of ``error``.

    Args:
        error: The error.
        stand_in: The class of an error that replaces a cause which cannot be pickled.
    """
    names = [*vars(error), *copyreg._slotnames(type(error))]  # type: ignore[attr-defined]
    if isinstance(error, (NameError, AttributeError)):
        names.append("name")
    state = {name: getattr(error, name) for name in names if hasattr(error, name)}
    links: dict[int, Linked] = {}  # one for both, or each error of a chain would double the work
    for name in ("__context__", "__cause__"):
        linked = getattr(error, name)
        if linked is not None:
            state[name] = links.setdefault(id(linked), Linked(linked, stand_in))
    state["__suppress_context__"] = error.__suppress_context__  # which setting a cause sets
    return state


def keep_own_pickling(root: type[Exception]) -> None:
    """Have ``root`` and its subclasses pickled as they define it.

    tblib, which distributed imports, registers another way for every class of exception that
    exists. It pickles causes as they are, so one that cannot be pickled takes its error along.
    """
    kinds = [root]
    while kinds:
        kind = kinds.pop()
        copyreg.dispatch_table.pop(kind, None)
        kinds += kind.__subclasses__()


#: The errors that are being pickled as causes of each other.
_under_way: ContextVar[tuple[int, ...]] = ContextVar("under way", default=())


class Linked:
    """The cause or context of an error that is copied or pickled.

    It often has a user's class, and must not make the error that it explains unreadable: a cause
    that does not survive pickling is replaced by its text.
    """

    __slots__ = ("_stand_in", "error")

    def __init__(self, error: BaseException, stand_in: type[Exception]) -> None:
        self.error = error
        self._stand_in = stand_in

    def __copy__(self) -> Linked:
        return self

    def __deepcopy__(self, _memo: object) -> Linked:
        return self  # copies of an error share its cause and context

    def __reduce__(self) -> tuple[Any, ...]:
        import pickle  # 8 ms, and already loaded by the code that pickles this

        around = _under_way.get()
        before = _under_way.set((*around, id(self.error)))
        try:
            if id(self.error) in around:
                raise ValueError("it is among its own causes")
            pickled = pickle.dumps(self.error)
            pickle.loads(pickled)
        except Exception as problem:
            text = f"{error_text(self.error)} (it cannot be pickled: {problem})"
            pickled = pickle.dumps(self._stand_in(text))
        finally:
            _under_way.reset(before)
        return _unpickled, (pickled, self._stand_in)


def _unpickled(pickled: bytes, stand_in: type[Exception]) -> Linked:
    import pickle

    return Linked(pickle.loads(pickled), stand_in)
