"""``override``: another value, function or error for a task or a node, for tests."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Self

from cascade.runtime.overriding import Replacement, in_force
from cascade.spec.callables import gives_coroutine
from cascade.spec.errors import DefinitionError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.methods import BoundTask
from cascade.spec.operation import Operation
from cascade.spec.task import Task
from cascade.spec.wording import short

_NOT_GIVEN: Final[Any] = object()


@dataclass(frozen=True)
class ReplacedCall:
    """A call that a replacement has got.

    Attributes:
        args: The positional arguments, with values in place of lazy ones and of resources.
        kwargs: Those by name.
        arguments: All of them by the names of the task's parameters; of other nodes, ``kwargs``.
    """

    task: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    arguments: dict[str, Any]


class override:
    """Replace a task or a node in all runs that begin in a ``with`` block.

    This affects all engines of the process, also those of ``cs.run``, in all threads, on both
    paths: calls in maps, steps of loops, compiled programs, calls that would go to another process.
    Blocks nest; of several replacements for a call the inner one wins. Runs that began before the
    block are not affected.

    The node is a call of the task in all other ways: its inputs are computed, its resources are
    opened (``cs.override_resource`` replaces these), and its retries, timeout, ``catch``, limits
    and events are as usual. A run with a replacement uses no cache, and compiles no loops.

    Args:
        target: A task, or a method that is one; the name of a task, for all tasks with that name;
            or a lazy value of the target, for this node alone. The items of a map are nodes of
            their own.
        value: The value of each call.
        function: Called in place of the task's, with its arguments. It may return what a task may:
            lazy values, tail calls. A task for which ``is_async`` holds may get a coroutine
            function; others may not.
        error: An error, or a class of errors, that each call raises.

    Attributes:
        calls: The calls so far, in their order.

    Raises:
        DefinitionError: Not exactly one of ``value``, ``function`` and ``error`` is given; or one
            of the arguments is of another type.

    >>> import cascade as cs
    >>> @cs.task
    ... def fetch(url):
    ...     raise ConnectionError("no network in tests")
    >>> @cs.task
    ... def length(text):
    ...     return len(text)
    >>> with override(fetch, value="hello") as fetched:
    ...     cs.run(length(fetch("https://example.com")))
    5
    >>> fetched.calls[0].arguments
    {'url': 'https://example.com'}
    """

    def __init__(
        self,
        target: Task[..., Any] | BoundTask[..., Any] | LazyResult[Any] | str,
        *,
        value: Any = _NOT_GIVEN,
        function: Callable[..., Any] = _NOT_GIVEN,
        error: BaseException | type[BaseException] = _NOT_GIVEN,
    ) -> None:
        given = {
            name: given
            for name, given in (("value", value), ("function", function), ("error", error))
            if given is not _NOT_GIVEN
        }
        if len(given) != 1:
            raise DefinitionError(
                f"override() takes one of value=, function= and error=, but got "
                f"{', '.join(given) or 'none'}"
            )
        self.calls: list[ReplacedCall] = []
        self._lock = threading.Lock()
        self._function = _function_of(*given.popitem())
        self._name, where = _place_of(target)
        task = getattr(target, "task", target)
        if isinstance(task, Operation):
            self._check_kind(task)
        self._replacement = Replacement(self._standing_in, **where)
        self._entered = 0

    def __enter__(self) -> Self:
        if self._entered == 0:
            in_force.add(self._replacement)
        self._entered += 1
        return self

    def __exit__(self, *_error: object) -> None:
        self._entered -= 1
        if self._entered == 0:
            in_force.remove(self._replacement)

    def _check_kind(self, operation: Operation) -> None:
        if gives_coroutine(self._function) and not operation.is_async:
            raise DefinitionError(
                f"the function for '{operation.name}' is a coroutine function, but the task is not"
                "\n    right:  def instead of async def"
            )

    def _standing_in(self, operation: Operation) -> Callable[..., Any]:
        """The function that is called in place of that of ``operation``."""
        function = self._function
        self._check_kind(operation)
        if not operation.is_async:

            def stand_in(*args: Any, **kwargs: Any) -> Any:
                self._note(operation, args, kwargs)
                return function(*args, **kwargs)

            return stand_in

        async def awaited(*args: Any, **kwargs: Any) -> Any:
            self._note(operation, args, kwargs)
            result = function(*args, **kwargs)
            return await result if inspect.isawaitable(result) else result

        return awaited

    def _note(self, operation: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        task = operation if isinstance(operation, Task) else getattr(operation, "task", None)
        named = dict(kwargs)
        if isinstance(task, Task):
            named = dict(task.parameters.named(args, kwargs))
        with self._lock:
            self.calls.append(ReplacedCall(operation.name, args, kwargs, named))

    def assert_called(self, times: int | None = None, /, **arguments: Any) -> None:
        """Check that there were calls.

        Args:
            times: How many; None for at least one.
            arguments: Only calls with these arguments count, by the names of the parameters.

        Raises:
            AssertionError: Their number is another one; the message lists all calls.
        """
        meant = [call for call in self.calls if _has(call, arguments)]
        if (not meant) if times is None else (len(meant) != times):
            wanted = ", ".join(f"{name}={short(given)}" for name, given in arguments.items())
            listed = "".join(f"\n    {_said(call)}" for call in self.calls) or "\n    none"
            raise AssertionError(
                f"'{self._name}' was called {len(meant)} times{f' with {wanted}' if wanted else ''}"
                f", not {'at least once' if times is None else times}; its calls:{listed}"
            )

    def assert_not_called(self) -> None:
        """Check that there were no calls.

        Raises:
            AssertionError: There was one; the message lists all calls.
        """
        self.assert_called(0)

    def __repr__(self) -> str:
        return f"<override of {self._name}, {len(self.calls)} calls>"


def _function_of(kind: str, given: Any) -> Callable[..., Any]:
    if kind == "value":
        return lambda *_args, **_kwargs: given
    if kind == "function":
        if not callable(given):
            raise DefinitionError(f"override() takes a function=, but got {short(given)}")
        return given  # type: ignore[no-any-return]
    is_class = isinstance(given, type) and issubclass(given, BaseException)
    if not (is_class or isinstance(given, BaseException)):
        raise DefinitionError(f"override() takes an error to raise, but got {short(given)}")

    def fail(*_args: Any, **_kwargs: Any) -> Any:
        raise given if is_class else given.with_traceback(None)

    return fail


def _has(call: ReplacedCall, arguments: dict[str, Any]) -> bool:
    missing = object()
    return all(call.arguments.get(name, missing) == value for name, value in arguments.items())


def _said(call: ReplacedCall) -> str:
    arguments = ", ".join(f"{name}={short(value)}" for name, value in call.arguments.items())
    return f"{call.task}({arguments})"


def _place_of(target: Any) -> tuple[str, dict[str, Any]]:
    """Its name in messages, and the arguments of its Replacement."""
    if isinstance(target, BoundTask):
        target = target.task
    if isinstance(target, Task):
        return target.name, {"func": target.func}
    if isinstance(target, LazyResult):
        return f"{target.name} at {target.callsite}", {"node": target.number}
    if isinstance(target, str) and target:
        return target, {"name": target}
    raise DefinitionError(
        f"override() takes a task, the name of one, or a lazy value, but got {short(target)}"
    )
