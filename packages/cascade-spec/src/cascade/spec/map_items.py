"""The items of maps: calls that know their place in the list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, final

from cascade.spec.blueprint import Literal
from cascade.spec.containers import ATOMS
from cascade.spec.injection import Inject
from cascade.spec.lazy_types import LazyResult
from cascade.spec.lazy_value import NO_KWARGS, LazyValue
from cascade.spec.wording import short

if TYPE_CHECKING:
    from cascade.spec.mapping import MapPlan

R_co = TypeVar("R_co", covariant=True)

#: Most characters of an item's arguments.
_MOST_SHOWN = 200


@dataclass(slots=True)
class Item:
    """The place of a call in a map. Not to be changed, as the events that have it."""

    #: Its position in the list, from 0.
    index: int
    #: Its arguments from the lists, shortened: ``path='x.csv', size=3``. Empty where they are not
    #: known yet, or are not shown: those from parameters, resources and literals.
    arguments: str = ""
    #: ``LazyResult.number`` of the map; 0 if there is none.
    map: int = 0

    def __str__(self) -> str:
        """``item 2, path='x.csv'``."""
        return f"item {self.index}" + (f", {self.arguments}" if self.arguments else "")


@final
class MapItem(LazyResult[R_co]):
    """One call of a map (R8)."""

    __slots__ = ("_index", "_plan")

    _index: int
    _plan: MapPlan

    def item(self, given: Mapping[str, Any] = NO_KWARGS) -> Item:
        """Its place in the map.

        Args:
            given: Values of lazy arguments, by name, as far as they are known.
        """
        plan, shown = self._plan, []
        for name in plan.names:
            value = self.kwargs[name]
            if type(value) not in ATOMS:
                if issubclass(type(value), LazyValue):
                    value = given.get(name, value)
                if issubclass(type(value), _NOT_SHOWN):
                    continue
            if name not in plan.hidden:
                shown.append(f"{name}={short(value)}")
        text = ", ".join(shown)
        if len(text) > _MOST_SHOWN:
            text = f"{text[: _MOST_SHOWN - 1]}…"
        return Item(self._index, text, plan.number)

    @property
    def place(self) -> Item:
        """The same, without arguments."""
        return Item(self._index, "", self._plan.number)


_NOT_SHOWN = (LazyValue, Literal, Inject)


def item_of(lazy: LazyValue | None, given: Mapping[str, Any] = NO_KWARGS) -> Item | None:
    """The place of a call in its map, with its arguments; None if it is no item of a map."""
    return lazy.item(given) if isinstance(lazy, MapItem) else None
