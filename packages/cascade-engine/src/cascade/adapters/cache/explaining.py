"""explain_cache: which nodes of a target are hits, and what has changed for the others."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple

from cascade.adapters.cache.by_code import ByCode
from cascade.adapters.cache.known_values import KnownValues, UnknownValueError
from cascade.adapters.cache.reasons import not_tracked, why_not
from cascade.graph.build import in_order, inputs_of
from cascade.graph.codehash import code_hash
from cascade.graph.durations import duration_text
from cascade.graph.plan_keys import plan_keys
from cascade.spec.caching import CachePolicy, cache_policy
from cascade.spec.errors import ArgumentError, CascadeError
from cascade.spec.lazy_types import LazyResult, MappedLazyResult, as_lazy
from cascade.spec.mapping import expand
from cascade.spec.params import check_params
from cascade.spec.policies import ENGINES_CACHE
from cascade.spec.protocols import CacheBackend
from cascade.spec.shown import Shown
from cascade.spec.task import Task
from cascade.spec.wording import short, visible

_NONE: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True)
class NodeCache:
    """What a cache has for some nodes of one task that are alike.

    Attributes:
        task: The name of the task.
        status: ``"hit"``; ``"computed"``, that is, a run calls it; ``"not needed"``, as all that
            needs it is a hit; ``"unknown"`` before a run; or ``"no cache"``.
        reason: A clause, or empty.
        count: How many nodes.
        example: Of the first of them, the argument that changed, shortened; or empty.
    """

    task: str
    status: str
    reason: str
    count: int = 1
    example: str = ""

    def _cells(self) -> tuple[str, str, str, str]:
        count = f"{self.count:,} ×" if self.count > 1 else ""
        example = f"{', such as' if count else ':'} {self.example}" if self.example else ""
        return self.task, count, self.status, self.reason + example


@dataclass(frozen=True)
class CacheExplanation(Shown):
    """What caches have for the nodes of a target.

    Attributes:
        nodes: The nodes, inputs first, those that are alike together.
        untracked: What keys do not have, because it has no content: its name and its type.
    """

    nodes: tuple[NodeCache, ...]
    untracked: tuple[str, ...] = ()

    def __str__(self) -> str:
        rows = [node._cells() for node in self.nodes]
        rows += [("", "", "not tracked", each) for each in self.untracked]
        if not rows:
            return "it calls no task"
        names, counts, statuses = (max(len(row[place]) for row in rows) for place in range(3))
        counts += 2 if counts else 0
        lines = (
            f"{name:{names}}{count:>{counts}}  {status:{statuses}}  {why}"
            for name, count, status, why in rows
        )
        return "\n".join(visible(line.rstrip()) for line in lines)


class _Told(NamedTuple):
    """What is told of one node, and the seconds since a hit was computed."""

    node: NodeCache
    age: float | None = None


def _together(
    task: str, status: str, reason: str, ages: Sequence[float | None], example: str
) -> NodeCache:
    """What is told of nodes that are alike."""
    known = [age for age in ages if age is not None]
    if known:
        least, most = duration_text(min(known)), duration_text(max(known))
        reason = f"computed {least} ago" if least == most else f"computed {least} to {most} ago"
    return NodeCache(task, status, reason, len(ages), example)


def explain_cache(
    target: Any,
    params: Mapping[str, Any] | None = None,
    *,
    cache: CachePolicy | CacheBackend | str | None = None,
) -> CacheExplanation:
    """Which nodes of ``target`` are hits, and what has changed for those that are not.

    No task is called. The values of hits are loaded, where the keys of nodes that are no hits need
    them.

    >>> import cascade as cs
    >>> @cs.task(pure=True)
    ... def double(n):
    ...     return 2 * n
    >>> cache = cs.ByCode("memory:")
    >>> cs.run(double(1), cache=cache)
    2
    >>> print(cs.explain_cache([double(1), double(2)], cache=cache))
    double  hit       computed ... ago
    double  computed  its argument 'n' changed: 2

    Args:
        target: A lazy value, or a container with lazy values.
        params: Those of the run.
        cache: That of the engine, for tasks with ``pure=True``.

    Raises:
        ArgumentError: ``target`` is neither, or ``cache`` is no cache.
        StoreError: A cache cannot be used.
    """
    frame = sys._getframe(1)
    lazy = as_lazy(target, frame.f_code, frame.f_lasti)
    if not isinstance(lazy, LazyResult):
        raise ArgumentError(f"explain_cache() takes a lazy value, but got {short(target)}")
    if isinstance(cache, str):
        cache = ByCode(cache)
    engines = None if cache is None else cache_policy(cache, None, (), "")
    return _Explaining(engines, check_params(params)).explain(lazy)


class _Explaining:
    """Looks for the entries of one target's nodes."""

    def __init__(self, engines: CachePolicy | None, params: Mapping[str, Any]) -> None:
        self._engines = engines
        self._params = params
        self._known = KnownValues(params)
        self._untracked: dict[str, None] = {}

    def explain(self, target: LazyResult[Any]) -> CacheExplanation:
        lazies = in_order(target, routes=True)
        self._find_planned(target)
        found: list[tuple[LazyResult[Any], NodeCache, float | None]] = []
        for node in lazies:
            found += ((node, *told) for told in self._told(node))
        needed = self._needed(target)
        alike: dict[tuple[str, str, str], list[float | None]] = {}
        examples: dict[tuple[str, str, str], str] = {}
        for node, told, age in found:
            kind = told.task, told.status, told.reason
            if node not in needed and told.status != "hit":
                kind = told.task, "not needed", "all that needs it is a hit"
            alike.setdefault(kind, []).append(age)
            examples.setdefault(kind, told.example)
        nodes = (_together(*kind, ages, examples[kind]) for kind, ages in alike.items())
        return CacheExplanation(tuple(nodes), tuple(self._untracked))

    def _find_planned(self, target: LazyResult[Any]) -> None:
        """Find the hits that are known by their plan keys."""
        keys = plan_keys(target, self._head, self._params, self._ignored)
        wanted: dict[ByCode, dict[bytes, list[LazyResult[Any]]]] = {}
        for node, key in keys.items():
            cache = self._by_code(node)
            if cache is not None and isinstance(node.task, Task):
                wanted.setdefault(cache, {}).setdefault(key, []).append(node)
        for cache, nodes in wanted.items():
            for key, plan in cache.find_plans(nodes).items():
                for node in nodes[key]:
                    self._known.hits[node] = partial(cache.load_plan, plan)

    def _told(self, node: LazyResult[Any]) -> Iterator[_Told]:
        if isinstance(node, MappedLazyResult):
            yield from self._items(node)
        elif isinstance(node.task, Task):
            yield self._of_call(node, self._by_code(node))

    def _items(self, node: LazyResult[Any]) -> Iterator[_Told]:
        """Those of a map, if the lists that it goes over are known."""
        plan, *columns = node.args
        cache = self._by_code(node)
        if cache is None or plan.fallbacks or plan.window:
            yield _Told(NodeCache(plan.task.name, *self._without(node)))
            return
        try:
            items = expand(plan, *[self._known.value(column) for column in columns])
        except UnknownValueError as unknown:
            yield _Told(NodeCache(plan.task.name, "computed", _depends_on(unknown.node)))
        else:
            calls = items._dependencies
            for item in calls:
                yield self._of_call(item, cache)
            if all(item in self._known.hits for item in calls):
                self._known.hits[node] = partial(self._list_of, calls)

    def _list_of(self, nodes: Iterable[LazyResult[Any]]) -> tuple[bool, Any]:
        """The values of hits, as one."""
        try:
            return True, [self._known.value(node) for node in nodes]
        except UnknownValueError:
            return False, None

    def _of_call(self, node: LazyResult[Any], cache: ByCode | None) -> _Told:
        name = node.task.name
        if cache is None:
            return _Told(NodeCache(name, *self._without(node)))
        assert isinstance(node.task, Task)
        self._untracked.update(dict.fromkeys(not_tracked(code_hash(node.task))))
        try:
            arguments = self._known.arguments(node)
            key = cache.key(node.task, arguments)
        except UnknownValueError as unknown:
            if node in self._known.hits:
                return _Told(NodeCache(name, "hit", "known by what it is made of"))
            return _Told(NodeCache(name, "computed", _depends_on(unknown.node)))
        except CascadeError as error:
            return _Told(NodeCache(name, "computed", str(error)))
        found = cache.entries.find([key.digest]).get(key.digest)
        now = cache.now()
        if found is not None and (found.expires is None or found.expires > now):
            self._known.hits.setdefault(node, partial(cache.load, key, {}))
            return _Told(NodeCache(name, "hit", ""), max(0.0, now - found.computed))
        self._known.hits.pop(node, None)
        if found is not None:
            assert found.expires is not None
            ago = duration_text(now - found.expires)
            return _Told(NodeCache(name, "computed", f"expired {ago} ago"))
        reason, changed = why_not(cache.entries, key)
        example = "" if changed is None else short(arguments.get(changed))
        return _Told(NodeCache(name, "computed", reason, example=example))

    def _without(self, node: LazyResult[Any]) -> tuple[str, str]:
        """The status of a node that has no cache by code."""
        cache = self._cache_of(node)
        if cache is None:
            return "no cache", "it is called in each run"
        return "unknown", f"its cache {short(cache)} is asked when it runs"

    def _needed(self, target: LazyResult[Any]) -> set[LazyResult[Any]]:
        """The nodes that a run enters."""
        needed, todo = set[LazyResult[Any]](), [target]
        while todo:
            node = todo.pop()
            if node in needed:
                continue
            needed.add(node)
            if node not in self._known.hits:
                todo += inputs_of(node)
                todo += [other for _, other in node._choices]
        return needed

    # -- the caches of nodes --------------------------------------------------------------------

    def _cache_of(self, node: LazyResult[Any]) -> CachePolicy | None:
        cache = None if node._policies is None else node._policies.calls.cache
        return self._engines if cache is ENGINES_CACHE else cache

    def _by_code(self, node: LazyResult[Any]) -> ByCode | None:
        cache = self._cache_of(node)
        return cache if isinstance(cache, ByCode) and cache.plans is not None else None

    def _planned(self, cache: CachePolicy | None) -> ByCode | None:
        if cache is ENGINES_CACHE:
            cache = self._engines
        return cache if isinstance(cache, ByCode) and cache.plans is not None else None

    def _head(self, task: Task[..., Any], cache: CachePolicy | None) -> bytes | None:
        planned = self._planned(cache)
        try:
            return None if planned is None else planned.head(task)
        except ArgumentError:
            return None

    def _ignored(self, cache: CachePolicy | None) -> frozenset[str]:
        planned = self._planned(cache)
        return _NONE if planned is None else planned.ignored


def _depends_on(node: LazyResult[Any]) -> str:
    """Why a node is computed whose argument is known only in a run."""
    names = [*_tasks_below(node)]
    shown = f"'{names[0]}'" if names else f"'{node.name}'"
    return f"it needs the value of {shown}, which is computed"


def _tasks_below(node: LazyResult[Any]) -> Iterable[str]:
    """The tasks that give a structural node its values."""
    todo = [node]
    while todo:
        each = todo.pop()
        if isinstance(each.task, Task):
            yield each.task.name
        elif isinstance(each, MappedLazyResult):
            yield each.args[0].task.name
        else:
            todo += reversed(inputs_of(each))
