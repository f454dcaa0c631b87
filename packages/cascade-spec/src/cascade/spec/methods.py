"""Tasks as methods: ``obj.work(x)`` for a task ``work`` of its class.

A task in a class binds as its function would: ``obj.work`` is a BoundTask, which hands over the
object as the first argument. ``Class.work`` is the task itself. A callable that Python does not
bind, such as a partial, is a task that does not bind either.
"""

from __future__ import annotations

import inspect
import sys
from functools import partial
from types import MethodType
from typing import TYPE_CHECKING, Any, Generic, Never, ParamSpec, TypeVar

from cascade.spec.blueprint import Literal
from cascade.spec.containers import RESULT_MARKS, holds_marks, is_container
from cascade.spec.errors import ArgumentError, DefinitionError
from cascade.spec.lazy_types import LazyResult, MappedLazyResult
from cascade.spec.mapping import unnamed_in_map
from cascade.spec.operation import Operation
from cascade.spec.wording import short

if TYPE_CHECKING:
    from cascade.spec.task_class import Task

P = ParamSpec("P")
R = TypeVar("R")


def binds(func: Any) -> bool:
    """Whether Python binds ``func`` to an object, in whose class it stands."""
    return hasattr(type(func), "__get__") and not isinstance(func, (MethodType, partial))


#: Whether ``@classmethod`` lets the task under it bind itself. From Python 3.13 on it makes a
#: method, whose attributes are those of the task, without the class.
_CHAINS = sys.version_info < (3, 13)


def refuse_hidden_class(task: Task[..., Any]) -> None:
    """Refuse a tail call of a task under ``@classmethod``, which would not get the class.

    Such a task was not told the class in whose body it stands, and its parameter is ``cls``.

    Raises:
        DefinitionError: ``@classmethod`` stands above ``@cs.task``, on Python 3.13 or later.
    """
    if _CHAINS or task.owner is not None:
        return
    where = task.__qualname__.rpartition(".")[0]
    first = next(iter(task.parameters.signature.parameters), "")
    if first == "cls" and where and not where.endswith("<locals>"):
        raise DefinitionError(
            f"task '{task.name}' stands under @classmethod, so its tail call would not get the "
            "class\n    wrong:  @classmethod above @cs.task\n"
            "    right:  @cs.task above @classmethod"
        )


class BoundTask(Operation, Generic[P, R]):
    """A task and the object that it is called with: ``obj.work``.

    Other attributes are those of the task.

    Attributes:
        task: The task.
        instance: Its first argument: the object, or the class of a class method.
    """

    __slots__ = ("instance", "task")

    def __init__(self, task: Task[..., R], instance: Any) -> None:
        # One is made for each ``obj.work`` in a step of a loop, so the rest is made on demand.
        self.task = task
        self.instance = instance

    @property
    def func(self) -> Any:  # type: ignore[override]
        return MethodType(self.task.func, self.instance)

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.task.name

    @property
    def is_async(self) -> bool:  # type: ignore[override]
        return self.task.is_async

    @property
    def plain(self) -> bool:  # type: ignore[override]
        return not self.task.is_async

    @property
    def nout(self) -> int | None:  # type: ignore[override]
        return self.task.nout

    @property
    def mode(self) -> str:  # type: ignore[override]
        return self.task.mode

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> LazyResult[R]:
        """Make a node, as a call of the task with the object as its first argument."""
        frame = sys._getframe(1)
        return self.task.make((self.instance, *args), kwargs, frame.f_code, frame.f_lasti)

    def tail(self, /, *args: Any, **kwargs: Any) -> R:
        """Return this from a task to continue as this task, see ``Task.tail``."""
        return self.task.tail(self.instance, *args, **kwargs)

    def map(self, /, *unnamed: Never, **iterables: Any) -> MappedLazyResult[R]:
        """Call the task once per item, see ``Task.map``; the object is the same for every item.

        Raises:
            ArgumentError: The object holds lazy values, so that it would be another one for each
                item.
        """
        first = next(iter(self.task.parameters.signature.parameters))
        if unnamed:
            raise unnamed_in_map(self.task, unnamed, first)
        if is_container(type(self.instance)) and holds_marks(self.instance, RESULT_MARKS):
            raise ArgumentError(
                f"{self.name}.map() of an object that holds lazy values, {short(self.instance)}; "
                "give their values to the object, or the lazy values to the task"
            )
        given: dict[str, Any] = {first: Literal(self.instance), **iterables}
        mapped: MappedLazyResult[R] = self.task.map(**given)
        return mapped

    @property
    def __signature__(self) -> inspect.Signature:
        first, *others = self.task.parameters.signature.parameters.values()
        kept = first.kind is first.VAR_POSITIONAL
        return self.task.parameters.signature.replace(parameters=[first, *others][not kept :])

    def __getattr__(self, name: str) -> Any:
        if name in ("task", "instance"):  # not set yet
            raise AttributeError(name)
        return getattr(self.task, name)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BoundTask):
            return NotImplemented
        return self.task is other.task and self.instance is other.instance

    def __hash__(self) -> int:
        return hash((id(self.task), id(self.instance)))

    def __reduce__(self) -> Any:
        return getattr, (self.instance, self.task.func.__name__)

    def __repr__(self) -> str:
        return f"<task {self.name} of {short(self.instance)}>"
