"""BlueprintRegistry: blueprints by id, the targets of mutual tail calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cascade.spec.blueprint import Blueprint
from cascade.spec.errors import DefinitionError, UnknownBlueprintError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.nearby import names_known
from cascade.spec.wording import short


class BlueprintRegistry:
    """Maps ids to blueprints. A registry may be shared by machines and engines."""

    def __init__(self) -> None:
        self._blueprints: dict[str, Blueprint] = {}

    def register(self, blueprint_id: str, blueprint: Blueprint) -> None:
        """Make ``blueprint`` the target of tail calls to ``blueprint_id``; replaces an older one.

        Raises:
            DefinitionError: It is not a Blueprint, or has no instructions.
        """
        if not isinstance(blueprint, Blueprint) or not blueprint.instructions:
            raise DefinitionError(
                f"a Blueprint with instructions was expected for '{blueprint_id}', but got "
                f"{short(blueprint)}"
            )
        self._blueprints[blueprint_id] = blueprint

    def get(self, blueprint_id: str, caller: str) -> Blueprint:
        """The blueprint for a tail call that the task ``caller`` made.

        Raises:
            UnknownBlueprintError: The id is not registered; the message lists those that are.
        """
        try:
            return self._blueprints[blueprint_id]
        except KeyError:
            known = names_known(blueprint_id, sorted(self._blueprints))
            raise UnknownBlueprintError(
                f"the tail call of task '{caller}' goes to the blueprint '{blueprint_id}', but "
                f"registered are {known}"
            ) from None

    def name_of(self, blueprint: Blueprint) -> str | None:
        """An id of ``blueprint``; None if it was replaced since."""
        for name, found in self._blueprints.items():
            if found is blueprint:
                return name
        return None

    def inputs(self) -> list[LazyResult[Any]]:
        """The lazy values that the blueprints take where a tail call does not give an argument."""
        if not self._blueprints:
            return []
        return [lazy for found in list(self._blueprints.values()) for lazy in _inputs_of(found)]


def _inputs_of(blueprint: Blueprint) -> Iterator[LazyResult[Any]]:
    computed = {call.output.index: call.source for call in blueprint.instructions}
    for register in blueprint.input_sources.values():
        source = computed.get(register)
        if source is not None:
            yield source
    for default in blueprint.input_defaults.values():
        if isinstance(default, LazyResult):
            yield default
