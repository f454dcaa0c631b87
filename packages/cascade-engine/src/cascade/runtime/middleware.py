"""Middleware: functions of the user around each call of a task.

A middleware is a generator function with one ``yield``, at which the call is made. So one function
serves plain and coroutine functions alike. An engine with middlewares makes each call by itself:
its runs use no compiled loops and no other short cut. Without them nothing is asked per call.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from inspect import iscoroutinefunction, signature
from types import CodeType, GeneratorType
from typing import Any, TypeAlias

from cascade.spec.errors import ArgumentError, DefinitionError, TaskStopIterationError
from cascade.spec.wording import short


@dataclass(slots=True, eq=False)
class TaskCall:
    """A call of a task that is about to be made.

    Attributes:
        run_id: The id of its run.
        task: The name of the task.
        node: ``LazyResult.number`` of its node, as in events.
        parent: The node whose call has returned this one, directly or in a map or container that
            it has returned; None for a node of the target.
        item: Its position in the list of a map; None if it is no item.
        attempt: 1, or more after failed ones (R10).
        step: How often the node has continued before this call (M20).
        is_async: Whether the task is a coroutine function.
        args: The positional arguments, with values in place of lazy ones and of resources. A
            middleware may replace them before the call.
        kwargs: The arguments by name; the same.
    """

    run_id: str
    task: str
    node: int
    parent: int | None
    item: int | None
    attempt: int
    step: int
    is_async: bool
    args: Sequence[Any] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)


#: ``def timed(call: TaskCall): …; value = yield; …; return value``
Middleware: TypeAlias = Callable[[TaskCall], Generator[None, Any, Any]]


class Middlewares:
    """The middlewares of an engine, the outermost one first.

    Attributes:
        each_step: Whether one of them has to see each step of a loop, so that none is compiled.
            Those of users do; others have an attribute ``each_step`` that is false.

    Raises:
        ArgumentError: It is no list, or one of them cannot be called with a call alone, or is a
            coroutine function.
    """

    def __init__(self, functions: Iterable[Middleware]) -> None:
        listed = not callable(functions) and isinstance(functions, Iterable)
        self.functions = tuple(functions) if listed else ()
        for function in self.functions if listed else [functions]:
            if not listed or not callable(function):
                raise ArgumentError(
                    "middleware= takes a list of generator functions, but "
                    f"{'has' if listed else 'is'} {short(function)}"
                )
            _check_parameters(function)

        steps = [getattr(f, "each_step", True) for f in self.functions]
        self.each_step = any(steps) or not steps

    def around(
        self, call: TaskCall, func: Callable[..., Any], is_async: bool
    ) -> Callable[..., Any]:
        """A function that makes ``call`` with the middlewares around it, as ``func`` alone would.

        It is a coroutine function if ``is_async``.
        """

        def make(*args: Any, **kwargs: Any) -> Any:
            layers = self.entered(call, args, kwargs)
            if layers.goes_on:
                try:
                    layers.value = func(*call.args, **call.kwargs)
                except BaseException as error:
                    layers.fail(error, func)
            return layers.left()

        async def make_awaited(*args: Any, **kwargs: Any) -> Any:
            layers = self.entered(call, args, kwargs)
            if layers.goes_on:
                try:
                    layers.value = await func(*call.args, **call.kwargs)
                except BaseException as error:
                    layers.fail(error, func)
            return layers.left()

        if not is_async:
            return make
        make_awaited.__qualname__ = getattr(func, "__qualname__", call.task)  # for errors
        return make_awaited

    def entered(self, call: TaskCall, args: Sequence[Any], kwargs: dict[str, Any]) -> Layers:
        """Begin ``call``: run each middleware to its ``yield``."""
        call.args, call.kwargs = args, kwargs
        layers = Layers()
        for function in self.functions:
            try:
                layer = function(call)
                if not isinstance(layer, GeneratorType):
                    raise _no_generator(function, layer)
                next(layer)
            except StopIteration as stop:  # it gives a value, and wants no call
                layers.value, layers.goes_on = stop.value, False
                break
            except BaseException as error:
                layers.fail(error, function)
                layers.goes_on = False
                break
            layers.entered.append(layer)
        return layers


class Layers:
    """The middlewares around one call, as far as they have begun, and the outcome of the call.

    Attributes:
        goes_on: Whether the call is to be made.
        value: What it has returned.
        entered: The middlewares that wait for its outcome.
    """

    __slots__ = ("_error", "entered", "goes_on", "value")

    def __init__(self) -> None:
        self.goes_on = True
        self.value: Any = None
        self.entered: list[GeneratorType[None, Any, Any]] = []
        self._error: BaseException | None = None

    def fail(self, error: BaseException, func: Callable[..., Any]) -> None:
        """The call has raised ``error``, in ``func``."""
        if isinstance(error, StopIteration):  # no generator lets one pass (M13)
            replaced = TaskStopIterationError.of(func)
            replaced.__cause__ = error
            error = replaced
        self._error = error

    def left(self) -> Any:
        """The value of the call, after each middleware has had the outcome.

        Raises:
            BaseException: The error of the call, or of a middleware.
        """
        while self.entered:
            self._leave(self.entered.pop())
        error, value = self._error, self.value
        self._error = self.value = None
        if error is None:
            return value
        try:
            raise error
        finally:
            del error  # otherwise this frame, held by its traceback, would hold it in turn

    def _leave(self, layer: GeneratorType[None, Any, Any]) -> None:
        error = self._error
        try:
            if error is None:
                layer.send(self.value)
            else:
                seen = error.__traceback__
                layer.throw(error)
        except StopIteration as stop:
            self.value, self._error = stop.value, None
        except BaseException as raised:
            if raised is error:
                raised.__traceback__ = seen  # without the middleware, which only let it pass
            self._error = raised
        else:
            layer.close()
            name = layer.gi_code.co_qualname if hasattr(layer, "gi_code") else short(layer)
            self._error = DefinitionError(
                f"middleware {name} yields twice\n"
                "    a middleware yields once, where the call is made:  value = yield"
            )
        finally:
            del error

    def drop(self) -> None:
        """The call was given up: close the middlewares that wait for its outcome."""
        while self.entered:
            self.entered.pop().close()


_RIGHT = """
    right:  def timed(call):
                value = yield      # the call is made here
                return value"""


def _check_parameters(function: Middleware) -> None:
    """Refuse functions in the style of other libraries: ``async def middleware(call, next)``.

    Raises:
        ArgumentError: ``function`` cannot be called with one argument, or is a coroutine function.
    """
    name = getattr(function, "__qualname__", short(function))
    if iscoroutinefunction(function):
        raise ArgumentError(
            f"middleware {name} is a coroutine function, but must be a generator function, "
            f"which serves plain and coroutine tasks alike{_RIGHT}"
        )
    try:
        parameters = signature(function)
    except (TypeError, ValueError):  # a callable of C without a signature
        return
    try:
        parameters.bind(None)
    except TypeError as error:
        raise ArgumentError(
            f"middleware {name}{parameters} must take one argument, the call: {error}{_RIGHT}"
        ) from None


def _no_generator(function: Any, result: object) -> DefinitionError:
    close = getattr(result, "close", None)  # a coroutine that is never awaited would warn
    if close is not None:
        close()
    name = getattr(function, "__qualname__", short(function))
    return DefinitionError(
        f"middleware {name} is no generator function: it has returned {short(result)}{_RIGHT}"
    )


#: The code of the functions that make calls with middlewares around them.
WITH_MIDDLEWARE = frozenset(
    code for code in Middlewares.around.__code__.co_consts if isinstance(code, CodeType)
)
