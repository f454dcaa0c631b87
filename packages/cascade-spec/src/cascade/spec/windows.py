"""Windowed maps: ``task.map(…, window=n)`` reads its columns item by item, during the run (M29).

This is their definition; ``slots`` has what a run makes of it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sized
from typing import TYPE_CHECKING, Any, Final

from cascade.spec.callables import gives_coroutine
from cascade.spec.callsite import users_frame
from cascade.spec.checks import check_count
from cascade.spec.errors import ArgumentError
from cascade.spec.fallbacks import NOT_GIVEN, Joins
from cascade.spec.lazy_types import LazyResult, as_lazy
from cascade.spec.lazy_value import WINDOWS
from cascade.spec.mapping import MapPlan, check_column, is_async_column, map_node, plan_of
from cascade.spec.operation import Operation
from cascade.spec.windowing import Windowing
from cascade.spec.wording import short

if TYPE_CHECKING:
    from cascade.spec.task_class import Task

#: The window of a map that has a fold and no window of its own.
DEFAULT_WINDOW: Final = 64


def windowed(
    task: Task[..., Any],
    iterables: Mapping[str, Any],
    joins: Joins,
    window: Any,
    fold: Any,
    initial: Any,
) -> LazyResult[Any]:
    """The node for ``task.map(**iterables, window=window)``, called from ``Task.map``."""
    frame = users_frame(sys._getframe(2))
    code, lasti = frame.f_code, frame.f_lasti
    _check_options(task, window, fold, initial)
    plan = plan_of(task, iterables, joins, code, lasti)
    begins = initial is not NOT_GIVEN
    plan.window = Windowing(DEFAULT_WINDOW if window is None else window, fold, begins)
    given = {name: iterables[name] for name in plan.names}
    for name, value in given.items():
        if not is_async_column(value):
            check_column(task.name, name, value)
    first = (as_lazy(initial, code, lasti),) if begins else ()
    return map_node(plan, expand_window, iterables, given, first, WINDOWS)


def _check_options(task: Task[..., Any], window: Any, fold: Any, initial: Any) -> None:
    """Refuse options that do not fit.

    Raises:
        ArgumentError: One has another type, or the name of a parameter of the task.
    """
    whose = f"{task.name}.map()"
    given = {"window": window is not None, "fold": fold is not None}
    for name in (*(n for n, is_given in given.items() if is_given), "initial"):
        if name in task.parameters.keyword and (name != "initial" or initial is not NOT_GIVEN):
            raise ArgumentError(
                f"{whose} takes {name}= itself, so a parameter of that name cannot be mapped over"
            )
    if window is not None:
        check_count(f"window of {whose}", window)
    if fold is None:
        if initial is not NOT_GIVEN:
            raise ArgumentError(f"{whose} takes initial= together with fold=")
        return
    if not callable(fold) or isinstance(fold, LazyResult) or gives_coroutine(fold):
        raise ArgumentError(
            f"fold of {whose} must be a task, or a plain function, but is {short(fold)}\n"
            "    right:  def add(so_far, value): …"
        )
    try:
        if isinstance(fold, Operation):
            fold.parameters.bind((None, None), {})  # type: ignore[attr-defined]
    except ArgumentError as error:
        raise ArgumentError(
            f"fold of {whose} is called with the value so far and that of an item: {error}"
        ) from None


def expand_window(plan: MapPlan, *given: Any) -> LazyResult[Any]:
    """The slots of a windowed map, and its value, as one lazy value."""
    from cascade.spec.slots import Window  # asyncio, which takes long to import

    how = plan.window
    assert how is not None
    columns, first = (given[:-1], given[-1]) if how.begins else (given, NOT_GIVEN)
    lengths = [len(column) for column in columns if isinstance(column, Sized)]
    window = Window(plan, columns, first)
    return window.nodes(max(1, min([how.size, *lengths])))
