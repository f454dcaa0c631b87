"""Router: one of several lazy values, chosen at run time (rule R7)."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Mapping, Sequence
from itertools import islice
from typing import Any, Generic, TypeVar, overload

from cascade.spec.blueprint import Literal
from cascade.spec.errors import DefinitionError, RouteError
from cascade.spec.fallbacks import alternative
from cascade.spec.injection import Inject
from cascade.spec.lazy_types import LazyResult, as_lazy
from cascade.spec.lazy_value import LITERALS, NO_KWARGS, RESOURCES
from cascade.spec.operation import FacadeOperation, Operation
from cascade.spec.wording import short

R = TypeVar("R")

#: Most keys that a message lists.
_LISTED = 20


class Routes:
    """The routes of one Router, hidden from the search for lazy values: they may not run."""

    __slots__ = ("by_key",)

    def __init__(self, by_key: Mapping[Hashable, Any]) -> None:
        self.by_key = by_key

    def __cascade_digest__(self) -> Any:
        return dict(self.by_key)

    def __repr__(self) -> str:
        return f"<routes {', '.join(map(short, islice(self.by_key, _LISTED)))}>"


class Router(LazyResult[R], Generic[R]):
    """The value of the route that ``selector`` names; the other routes do not run.

    Nodes that only unchosen routes use do not run either (M16).

    >>> from cascade.spec.task import task
    >>> @task
    ... def kind() -> str: ...
    >>> @task
    ... def small() -> str: ...
    >>> Router(selector=kind(), routes={"s": small(), "l": "nothing to do"}).name
    'router'

    Args:
        selector: Gives the key; usually lazy.
        routes: Key → lazy value (or plain value, by rule R1). At least one.

    Raises:
        DefinitionError: There are no routes, or a route is a Task instead of a call.
        ArgumentError: A route is a tail call, an ``inject(…)``, or a literal of nothing but a lazy
            value.
    """

    __slots__ = ("routes", "selector")

    @overload  # an own overload: from a dict of lazy values no checker infers R by the second one
    def __init__(self, *, selector: Any, routes: Mapping[Any, LazyResult[R]]) -> None: ...
    @overload
    def __init__(self, *, selector: Any, routes: Mapping[Any, LazyResult[R] | R]) -> None: ...
    def __init__(self, *, selector: Any, routes: Mapping[Any, Any]) -> None:
        _check_routes(routes)
        if isinstance(selector, Operation):
            raise DefinitionError(
                f"the selector is the task '{selector.name}' itself; call it: {selector.name}()"
            )
        frame = sys._getframe(1)
        code, lasti = frame.f_code, frame.f_lasti
        self.selector = as_lazy(selector, code, lasti)
        self.routes = {
            key: alternative(route, as_lazy, code, lasti, f"the route {short(key)}")
            for key, route in routes.items()
        }
        dependencies = (self.selector,) if isinstance(self.selector, LazyResult) else ()
        args = (Routes(self.routes), self.selector)
        special = LITERALS if isinstance(self.selector, Literal) else 0
        special |= RESOURCES if isinstance(self.selector, Inject) else 0
        super().__init__(ROUTE, args, NO_KWARGS, dependencies, special, code, lasti)

    @property
    def _choices(self) -> Sequence[tuple[object, LazyResult[Any]]]:
        return [(key, v) for key, v in self.routes.items() if isinstance(v, LazyResult)]


def choose(routes: Routes, key: Hashable) -> Any:
    """The route for ``key``: a lazy value that the run continues as (rule R4)."""
    try:
        route = routes.by_key[key]
    except (KeyError, TypeError):  # TypeError: an unhashable key is no route
        known = ", ".join(map(short, islice(routes.by_key, _LISTED)))
        raise RouteError(
            f"the router's selector gave {short(key)}, but its routes are {known}"
        ) from None
    return route.value if isinstance(route, Literal) else route


ROUTE = FacadeOperation(choose, "router", written="cs.Router(…)")


def _check_routes(routes: Mapping[Any, Any]) -> None:
    if not isinstance(routes, Mapping) or not routes:
        raise DefinitionError(f"Router needs a dict of at least one route, but got {short(routes)}")
    for key, route in routes.items():
        if isinstance(route, Operation):
            raise DefinitionError(
                f"route {short(key)} is the task '{route.name}' itself; call it\n"
                f"    wrong:  routes={{{short(key)}: {route.name}}}\n"
                f"    right:  routes={{{short(key)}: {route.name}()}}"
            )
