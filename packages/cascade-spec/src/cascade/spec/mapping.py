"""``task.map``: one node per item of lists that may become known only during the run (R8, M17).

A map is one node whose operation, ``expand``, takes the lists and returns a lazy list of calls.
By rule R4 the run continues as that list, so items are ordinary nodes: each has its own retries
and tail calls, and a mapped task may map again, to any depth.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from collections.abc import Set as AbstractSet
from dataclasses import replace
from itertools import count, cycle, islice, repeat, zip_longest
from types import CodeType
from typing import TYPE_CHECKING, Any, Final

from cascade.spec.blueprint import Literal
from cascade.spec.callsite import users_frame
from cascade.spec.containers import ATOMS, GATHER
from cascade.spec.errors import ArgumentError
from cascade.spec.fallbacks import Joins, Kept
from cascade.spec.injection import Inject
from cascade.spec.lazy_types import (
    LazyResult,
    MappedLazyResult,
    as_lazy,
    gathered,
    settle,
    with_fallback,
)
from cascade.spec.lazy_value import LIMITS, NO_KWARGS, RESOURCES
from cascade.spec.map_items import MapItem
from cascade.spec.misuse import written
from cascade.spec.operation import Operation
from cascade.spec.policies import PLAIN_CALLS, Policies
from cascade.spec.windowing import Taker, Windowing
from cascade.spec.wording import name_of, short

if TYPE_CHECKING:
    from cascade.spec.task_class import Task

_END: Final = object()


class MapPlan:
    """The task of a map, the names of its lists, and its call site: the input of ``expand``."""

    __slots__ = (
        "catches",
        "code",
        "fallbacks",
        "hidden",
        "lasti",
        "names",
        "number",
        "policies",
        "shared",
        "taker",
        "task",
        "window",
    )

    def __init__(
        self,
        task: Task[..., Any],
        names: tuple[str, ...],
        shared: Mapping[str, Any],
        code: CodeType,
        lasti: int,
        catches: bool = False,
    ) -> None:
        self.task = task
        self.names = names
        self.shared = shared
        self.code = code
        self.lasti = lasti
        #: Whether the error of an item becomes its value.
        self.catches = catches
        #: The fallbacks of each item, the innermost one first.
        self.fallbacks: tuple[Kept, ...] = ()
        #: Of the map; each item gets the policies that concern calls.
        self.policies: Policies[LazyResult[Any]] | None = None
        #: Names of the lists that come from parameters, which notes and events do not show.
        self.hidden: tuple[str, ...] = ()
        #: ``LazyResult.number`` of the map; 0 if the plan was read from a file.
        self.number = 0
        #: How it reads its columns item by item (M29); None if it reads them as a whole.
        self.window: Windowing | None = None
        #: Takes the values of the items, which are then in no list: the stream of a run.
        self.taker: Taker | None = None

    def __cascade_digest__(self) -> Any:
        fallbacks = [part for operation, f in self.fallbacks for part in (operation.name, f)]
        return name_of(self.task), self.names, dict(self.shared), self.catches, *fallbacks

    def __repr__(self) -> str:
        return f"<map of {self.task.name} over {', '.join(self.names)}>"


def mapped(
    task: Task[..., Any], iterables: Mapping[str, Any], joins: Joins
) -> MappedLazyResult[Any]:
    """The node for ``task.map(**iterables)``, called from ``Task.map``."""
    frame = users_frame(sys._getframe(2))
    plan = plan_of(task, iterables, joins, frame.f_code, frame.f_lasti)
    given = _columns(task.name, {name: iterables[name] for name in plan.names})
    return map_node(plan, expand, iterables, given)


def plan_of(
    task: Task[..., Any], iterables: Mapping[str, Any], joins: Joins, code: CodeType, lasti: int
) -> MapPlan:
    """The plan of a map over ``iterables``.

    Raises:
        ArgumentError: An option or a parameter is at fault, or nothing is to be mapped over.
    """
    joins.check(f"{task.name}.map()", task.parameters.keyword)
    shared = {n: v for n, v in iterables.items() if isinstance(v, (Literal, Inject))}
    names = tuple(name for name in iterables if name not in shared)
    if not names:
        raise ArgumentError(
            f"{task.name}.map() needs at least one iterable to go over"
            + (", but all its arguments are literals" if shared else "")
        )
    task.parameters.bind((), iterables)
    plan = MapPlan(task, names, shared, code, lasti, joins.catches)
    if not joins.catches:
        plan.fallbacks = joins.fallbacks(as_lazy, code, lasti)
    return plan


def map_node(
    plan: MapPlan,
    function: Callable[..., Any],
    iterables: Mapping[str, Any],
    given: Mapping[str, Any],
    more: tuple[Any, ...] = (),
    special: int = 0,
) -> MappedLazyResult[Any]:
    """The node of a map.

    Args:
        plan: Its plan.
        function: Called with the plan, the columns, and ``more``.
        iterables: The arguments of the map.
        given: Those that are columns, as they were read.
        more: Further arguments.
        special: What a run has to look at, besides resources.
    """
    task, code, lasti = plan.task, plan.code, plan.lasti
    columns = tuple(as_lazy(column, code, lasti) for column in given.values())
    dependencies = tuple(v for v in (*columns, *more) if isinstance(v, LazyResult))
    left_out = [m for n, m in task.parameters.injections.items() if n not in iterables]
    # So that the run checks before it begins whether they are available.
    if any(isinstance(value, Inject) for value in (*plan.shared.values(), *left_out)):
        special |= RESOURCES
    plan.hidden = tuple(n for n, c in zip(plan.names, columns, strict=True) if _is_from_outside(c))
    lazy: MappedLazyResult[Any] = MappedLazyResult(
        Operation(function, f"{task.name}.map"),
        (plan, *columns, *more),
        {},
        dependencies,
        special,
        code,
        lasti,
    )
    lazy.factory = task
    lazy.mapping_kwargs = {**iterables, **given}
    plan.number = lazy.number
    if task.policies is not PLAIN_CALLS:
        lazy._begin_with(task.policies)
    return lazy


def unnamed_in_map(
    task: Task[..., Any], given: Sequence[Any], bound: str | None = None
) -> ArgumentError:
    """The error for ``task.map([1, 2])``, where the list has no parameter name.

    Args:
        task: The task.
        given: The iterables.
        bound: The parameter of the object of a method.
    """
    known = (*task.parameters.injections, bound)
    names = [n for n in task.parameters.keyword if n not in known] or ["…"]
    shown = [written(v) if isinstance(v, LazyResult) else short(v) for v in given]
    named = ", ".join(f"{n}={v}" for n, v in zip(names, shown, strict=False))
    return ArgumentError(f"{task.name}.map() takes its iterables by name: {task.name}.map({named})")


def expand(plan: MapPlan, *columns: Any) -> LazyResult[list[Any]]:
    """One call of the task per row, as one lazy list."""
    names = plan.names
    lists = _columns(plan.task.name, dict(zip(names, columns, strict=True))).values()
    common = common_arguments(plan)
    if len(names) == 1:
        (name,) = names
        rows: Iterable[dict[str, Any]] = ({name: v, **common} for v in next(iter(lists)))
    else:
        rows = ({**dict(zip(names, r, strict=True)), **common} for r in zip(*lists, strict=True))
    calls = item_calls(plan, enumerate(rows))
    if plan.taker is not None:
        calls = [_handed(plan, index, call) for index, call in enumerate(calls)]
    return gathered(calls, plan.code, plan.lasti)


def _handed(plan: MapPlan, index: int, call: LazyResult[Any]) -> LazyResult[Any]:
    """The node that hands the value of an item to the taker."""
    at = plan.code, plan.lasti
    return LazyResult(_HAND, (plan.taker, index, call), NO_KWARGS, (call,), 0, *at)


def _hand(taker: Taker, index: int, value: Any) -> None:
    taker.put(index, value)


_HAND: Final = Operation(_hand, "stream")


def common_arguments(plan: MapPlan) -> dict[str, Any]:
    """The arguments that all items have in common."""
    given = plan.task.with_injected((), {**dict.fromkeys(plan.names), **plan.shared})
    return {name: value for name, value in given.items() if name not in plan.names}


def item_calls(plan: MapPlan, rows: Iterable[tuple[int, dict[str, Any]]]) -> list[LazyResult[Any]]:
    """The calls of items, from their positions and arguments, with policies and fallbacks."""
    calls: list[LazyResult[Any]] = [_item(plan, index, row) for index, row in rows]
    _give_policies(plan, calls)
    for operation, fallback in plan.fallbacks:
        at = plan.code, plan.lasti
        calls = [with_fallback(call, operation, fallback, *at) for call in calls]
    return calls


def _give_policies(plan: MapPlan, calls: Iterable[LazyResult[Any]]) -> None:
    given = Policies() if plan.policies is None else plan.policies
    policies = replace(given.calls, catches=True) if plan.catches else given.calls
    if policies != PLAIN_CALLS or given.amounts:
        for call in calls:
            own = call._own_policies()
            own.calls, own.amounts = policies, given.amounts
            if policies.capacities or given.amounts:
                call._special |= LIMITS


def is_expansion(lazy: LazyResult[Any]) -> bool:
    """Whether a node makes the items of a map; a node of a blueprint may be one, too."""
    return lazy.task.func is expand and type(lazy.args[0]) is MapPlan


def taken_one_by_one(lazy: LazyResult[Any]) -> list[LazyResult[Any]]:
    """The columns of a map that hand over their items one by one (R8)."""
    if not is_expansion(lazy):
        return []
    waits = (*lazy._conditions, *lazy._predecessors)
    return [
        column
        for column in lazy.args[1:]
        if isinstance(column, LazyResult)
        and _hands_over(column)
        and not any(column is other for other in waits)
    ]


def takes_over(user: LazyResult[Any], column: LazyResult[Any]) -> bool:
    """Whether ``user`` is a map that takes the items of ``column`` one by one (R8)."""
    return any(column is taken for taken in taken_one_by_one(user))


def _hands_over(column: LazyResult[Any]) -> bool:
    if not is_expansion(column) or column._conditions or column._predecessors:
        return False
    if column.args[0].fallbacks:
        return False
    given = column.args[0].policies
    return given is None or given.calls.cache is None


def stand_in(plan: MapPlan, index: int) -> list[LazyResult[Any]]:
    """Nodes in place of an item of a map that has not been expanded yet, for paths to a node.

    The call comes first, then its fallbacks.
    """
    item: MapItem[Any] = MapItem(plan.task, (), {}, (), 0, plan.code, plan.lasti)
    item._index, item._plan = index, plan
    _give_policies(plan, [item])
    nodes: list[LazyResult[Any]] = [item]
    for operation, fallback in plan.fallbacks:
        nodes.append(with_fallback(nodes[-1], operation, fallback, plan.code, plan.lasti))
    return nodes


def _item(plan: MapPlan, index: int, row: dict[str, Any]) -> MapItem[Any]:
    """The call with the arguments of one row."""
    code, lasti = plan.code, plan.lasti
    (value, *more) = row.values()
    if type(value) is MapItem and ATOMS.issuperset(map(type, more)):
        # The commonest row of a map over a map, without a search.
        item: MapItem[Any] = MapItem(plan.task, (), row, (value,), False, code, lasti)
    else:
        item = MapItem(plan.task, *settle((), row, code, lasti), code, lasti)
    item._index, item._plan = index, plan
    return item


def _is_from_outside(column: Any) -> bool:
    """Whether a column is a parameter, or a container with one in it."""
    if not isinstance(column, LazyResult):
        return False
    parts = (column, *column._dependencies) if column.task is GATHER else (column,)
    return any(part._from_outside for part in parts)


def _columns(task: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The iterables as lists. Lazy ones stay as they are, because their items are not known yet.

    They are read in step (M17): an iterator is read no further than the others are long.

    Raises:
        ArgumentError: One is not iterable, all are endless, or their lengths differ.
    """
    for name, value in given.items():
        check_column(task, name, value)
    here: dict[str, Iterable[Any]] = {
        n: v for n, v in given.items() if not isinstance(v, LazyResult)
    }
    known = {n: list(v) for n, v in here.items() if isinstance(v, Sized)}
    check_lengths(task, {name: len(known[name]) for name in here if name in known})
    shortest = len(next(iter(known.values()))) if known else None
    known |= _read(task, {n: v for n, v in here.items() if n not in known}, shortest)
    if shortest is None:
        shortest = min(map(len, known.values()), default=0)
    more = {name for name, column in known.items() if len(column) > shortest}
    check_lengths(task, {n: min(len(known[n]), shortest) for n in here}, more)
    return {name: known.get(name, value) for name, value in given.items()}


def _read(
    task: str, iterables: Mapping[str, Iterable[Any]], shortest: int | None
) -> dict[str, list[Any]]:
    """The items of iterators, one more than the other columns have, if there are more."""
    if shortest is not None:
        return {n: list(islice(iter(v), shortest + 1)) for n, v in iterables.items()}
    if iterables and all(map(_is_endless, iterables.values())):
        raise _endless(task, iterables)
    if len(iterables) == 1:
        return {name: list(value) for name, value in iterables.items()}
    columns: dict[str, list[Any]] = {name: [] for name in iterables}
    for row in zip_longest(*iterables.values(), fillvalue=_END):
        for column, item in zip(columns.values(), row, strict=True):
            if item is not _END:
                column.append(item)
        if any(item is _END for item in row):
            break
    return columns


def _is_endless(value: Iterable[Any]) -> bool:
    """Whether it is an iterator that is known to be endless; about others nothing is known."""
    if type(value) is repeat:
        try:
            value.__length_hint__()  # operator.length_hint would hide the error
        except TypeError:  # repeat(x), without a number
            return True
    return type(value) in (count, cycle)


def is_async_column(column: Any) -> bool:
    """Whether it is an async iterable, which only maps with a window can read."""
    return hasattr(type(column), "__aiter__")


def check_column(task: str, name: str, value: Any) -> None:
    """Refuse a column that is nothing to go over.

    Raises:
        ArgumentError: It is a string, a task, or no iterable.
    """
    if isinstance(value, LazyResult):
        return
    if isinstance(value, Operation):
        raise ArgumentError(
            f"{task}.map() goes over the items of '{name}', but it is the task '{value.name}' "
            f"itself; call it: {value.name}()"
        )
    if is_async_column(value):
        raise ArgumentError(
            f"{task}.map() reads '{name}' as a whole, but it is an async iterator: {short(value)}\n"
            f"    to read it item by item:       {task}.map({name}=…, window=10)"
        )
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        what = "a string" if isinstance(value, (str, bytes)) else "no iterable"
        raise ArgumentError(
            f"{task}.map() goes over the items of '{name}', but it is {what}: {short(value)}\n"
            f"    for one item:                  {task}.map({name}=[value])\n"
            + _same_in_every_call(task, name)
        )


def _same_in_every_call(task: str, name: str) -> str:
    return f"    for the same in every call:    {task}.map({name}=cs.literal(value), …)"


def _endless(task: str, iterables: Iterable[str]) -> ArgumentError:
    names = ", ".join(f"'{name}'" for name in iterables)
    return ArgumentError(
        f"{task}.map() makes one call per item, but {names} has no end\n"
        + _same_in_every_call(task, next(iter(iterables)))
    )


def check_lengths(
    task: str, lengths: Mapping[str, int], more: AbstractSet[str] = frozenset()
) -> None:
    """Refuse unequal lengths. Columns in ``more`` are longer than their number says.

    Raises:
        ArgumentError: They are unequal.
    """
    if len(set(lengths.values())) < 2 and not more:
        return
    listed = ", ".join(
        f"'{name}' has {'more than ' * (name in more)}{length}" for name, length in lengths.items()
    )
    hint = "".join(f"\n{_same_in_every_call(task, name)}" for name in sorted(more)[:1])
    raise ArgumentError(
        f"{task}.map() goes over its iterables side by side, so they must be equally long, "
        f"but {listed} items{hint}"
    )
