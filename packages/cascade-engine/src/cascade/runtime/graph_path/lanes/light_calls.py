"""Light calls: nodes of the fast lane whose policies have nothing to do.

Most tasks of real programs take a resource, and many have a retry, a capacity or a cache. As long
as the resource is open, no attempt fails and the capacity is free, such a node needs no more than a
plain one: its function is called with a few other arguments. So it needs no ``Work``.

``LightCalls.ready`` tells them from nodes that must wait, and from those whose policies act before
the first call. These go the general way, as does each node whose first call was not the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from cascade.runtime.graph_path.lanes.timed_calls import IN_TIME, InTime
from cascade.runtime.graph_path.node_rules.caching import FOUND, Flight
from cascade.runtime.graph_path.run_parts import Part, RunParts
from cascade.runtime.graph_path.segments import Segment, Work
from cascade.runtime.limits.admission import needs_permit
from cascade.runtime.limits.permits import Holding, current_permit
from cascade.spec.blueprint import Literal
from cascade.spec.caching import CachePolicy
from cascade.spec.containers import ATOMS
from cascade.spec.injection import Inject
from cascade.spec.lazy_types import LazyResult
from cascade.spec.lazy_value import LITERALS, NO_KWARGS, RESOURCES
from cascade.spec.policies import ENGINES_CACHE, PLAIN_CALLS
from cascade.spec.repeatable import is_spent
from cascade.spec.task_class import Task

#: A call that is ready: its arguments, with resources in place of their markers; its capacities, or
#: its place among cached calls, or IN_TIME; whether ``take`` must be called before it.
Ready: TypeAlias = tuple[Sequence[Any], dict[str, Any], Holding | Flight | InTime | None, bool]
#: Keyword arguments that the nodes of a task share, which are one marker: the dict, the same with
#: the resource, and that.
Given: TypeAlias = tuple[dict[str, Any] | None, dict[str, Any], Any]
#: Of a node that goes on later, or has a value already.
KEPT: Final[Ready] = ((), {}, None, False)

_MARKS: Final = frozenset({Literal, Inject})
_MARKED: Final = LITERALS | RESOURCES
_NOT_OPEN: Final = object()


class LightCalls(Part):
    """The light calls of one run. On workers.

    Args:
        parts: The other parts of the run.

    Attributes:
        given: The last that came twice. If a node without policies has these keyword arguments, its
            resource is still open, and there are no constraints, ``ready`` needs not be asked.
    """

    def __init__(self, parts: RunParts) -> None:
        super().__init__(parts)
        self._constraints = self._run.constraints
        self._give_back = self._constraints.capacities.leave
        self._watched = parts.reports.wanted
        self.given: Given = (None, NO_KWARGS, None)

    def ready(self, segment: Segment, lazy: LazyResult[Any]) -> Ready | None:
        """The call of a node, which must then be made; None if the slow lane makes it.

        KEPT if the call is not made now: a resource is not open, and the node goes on later; or its
        value comes from elsewhere.

        One function, because most nodes of a service come here, and a Python call is 3 % of one.
        """
        operation, policies = lazy.task, lazy._policies
        if not operation.is_light:
            return None
        is_timed = False
        if policies is not None:
            calls = policies.calls
            if policies.conditions or policies.amounts:
                return None
            if calls.retry and calls.repeats and not _is_repeatable(segment, lazy):
                return None  # it is refused, before a resource opens
            if calls.timeout is not None:
                if calls.capacities or calls.cache is not None or lazy._special & RESOURCES:
                    return None
                is_timed = True
        constraints = self._constraints
        if constraints.any and needs_permit(constraints, operation, PLAIN_CALLS):
            return None
        args: Any = lazy.args
        kwargs, takes = lazy.kwargs, bool(lazy._dependencies)
        last = given = None
        if lazy._special & _MARKED:
            for place, value in enumerate(args):
                if type(value) in _MARKS:
                    found = self._value(value)
                    if found is _NOT_OPEN:
                        return self._unopened(segment, lazy, value)
                    if issubclass(type(found), LazyResult):
                        return None  # ``take`` would not tell it from one to be computed
                    if args is lazy.args:
                        args = [*args]
                    args[place] = found
            last, given, instances = self._run.resources.last_given  # inlined given_by_name()
            if kwargs is last:
                for instance in instances:
                    if not instance.is_ready:
                        break
                else:
                    kwargs = given
            if kwargs and kwargs is lazy.kwargs:
                for name, value in lazy.kwargs.items():
                    if type(value) not in _MARKS:
                        continue
                    found = self._value(value)
                    if found is _NOT_OPEN:
                        return self._unopened(segment, lazy, value)
                    if issubclass(type(found), LazyResult):
                        return None  # ``take`` would not tell it from one to be computed
                    if kwargs is lazy.kwargs:
                        kwargs = kwargs.copy()
                    kwargs[name] = found
                self._run.resources.remember(lazy.kwargs, kwargs)
        if policies is None:
            if kwargs is given and self.given[0] is not last:
                self._keep_given(lazy)
            return args, kwargs, None, takes
        takes = takes or bool(policies.predecessors)
        cache = self._run.cache if calls.cache is ENGINES_CACHE else calls.cache
        if cache is not None:
            if calls.capacities or not self._run.bus.is_silent:
                return None
            if takes:
                args, kwargs = self.take(segment, lazy, args, kwargs)
            return self._cached(segment, lazy, cache, args, kwargs)
        holding: Holding | InTime | None = IN_TIME if is_timed else None
        if calls.capacities:
            holding = self._run.gate.take(operation.name, calls)
            if holding is None:
                return None
        return args, kwargs, holding, takes

    def _keep_given(self, lazy: LazyResult[Any]) -> None:
        marked, given, instances = self._run.resources.last_given
        if marked is not lazy.kwargs or len(instances) != 1:
            return
        if isinstance(lazy.task, Task) and lazy.task.shares_kwargs(lazy):
            self.given = marked, given, instances[0]

    def _cached(
        self,
        segment: Segment,
        lazy: LazyResult[Any],
        cache: CachePolicy,
        args: Sequence[Any],
        kwargs: dict[str, Any],
    ) -> Ready:
        """``ready`` for a node with a cache, which has taken its inputs."""
        given = marked(lazy, args, kwargs) if lazy._special & RESOURCES else (args, kwargs)
        try:
            found: Any = self._parts.caches.begin(segment, lazy, cache, *given)
        except BaseException as error:
            self._parts.failures.fail(error, Work.called(segment, lazy, *given))
            return KEPT
        return KEPT if found is FOUND else (args, kwargs, found, False)

    def begun(
        self,
        segment: Segment,
        lazy: LazyResult[Any],
        call: Ready,
        given: tuple[Sequence[Any], dict[str, Any]],
        started: float,
    ) -> Work:
        """The work of a node that needs more than its first call, made with ``given``."""
        if type(call[2]) is Flight:
            self._parts.caches.watch(call[2])
        return Work.called(segment, lazy, *marked(lazy, *given), started)

    def _value(self, mark: Inject | Literal[Any]) -> Any:
        """The value of a literal, or of a resource if that is open."""
        if not isinstance(mark, Inject):
            return mark.value
        found = self._run.resources.ready(mark)
        return _NOT_OPEN if found is None else found.resource

    def _unopened(self, segment: Segment, lazy: LazyResult[Any], wanted: Inject) -> Ready | None:
        """The same as ``ready`` for a node with a resource that is not open."""
        calls = lazy._calls
        if self._watched or calls.capacities or calls.cache is not None:
            return None  # the slow lane does first what comes before the opening
        if self._run.resources.need_attempt(lazy.args, lazy.kwargs):
            return None
        found = self._parts.dispatch.resource_waits.opened(wanted, (segment, lazy))
        return KEPT if found is None else self.ready(segment, lazy)

    @staticmethod
    def take(
        segment: Segment, lazy: LazyResult[Any], args: Sequence[Any], kwargs: dict[str, Any]
    ) -> tuple[Sequence[Any], dict[str, Any]]:
        """The arguments with values in place of lazy ones; the node has then taken its inputs."""
        policies = lazy._policies
        if policies is not None:
            for source in policies.predecessors:
                segment.take_any(source)
        get = segment.take_any if lazy in segment.shared else segment.take
        given = [get(v) if issubclass(type(v), LazyResult) else v for v in args]
        if not kwargs:
            return given, kwargs
        return given, {
            n: get(v) if issubclass(type(v), LazyResult) else v for n, v in kwargs.items()
        }

    def call(
        self, lazy: LazyResult[Any], args: Sequence[Any], kwargs: dict[str, Any], holding: Holding
    ) -> Any:
        """Call the function of a node that holds capacities, and return them."""
        # Reset, because the calls on the fast lane share their context (M12).
        token = current_permit.set(holding)
        try:
            return lazy.task.func(*args, **kwargs)
        finally:
            current_permit.reset(token)
            self._give_back(holding)


def marked(
    lazy: LazyResult[Any], args: Sequence[Any], kwargs: dict[str, Any]
) -> tuple[Sequence[Any], dict[str, Any]]:
    """The arguments of a call with markers in place of its resources, as a ``Work`` has them."""
    if not lazy._special & RESOURCES:
        return args, kwargs
    args = [a if type(a) is Inject else v for a, v in zip(lazy.args, args, strict=True)]
    return args, {n: a if type(a) is Inject else kwargs[n] for n, a in lazy.kwargs.items()}


def _is_repeatable(segment: Segment, lazy: LazyResult[Any]) -> bool:
    """Whether every attempt can use the arguments (M23); if not, the slow lane says so."""
    args, kwargs = lazy.args, lazy.kwargs
    if not kwargs and ATOMS.issuperset(map(type, args)):
        return True
    try:
        for argument in (*args, *kwargs.values()):
            if issubclass(type(argument), LazyResult):
                argument = segment.value(argument)
            elif type(argument) in _MARKS:
                continue
            if type(argument) not in ATOMS and is_spent(argument):
                return False
    except Exception:  # of a class that answers for itself
        return False
    return True
