"""The methods of an engine that register resources and blueprints."""

from __future__ import annotations

from typing import Any

from cascade.runtime.engine_base import EngineBase
from cascade.spec.blueprint import Blueprint
from cascade.spec.resource import Provider, ResourceDefinition


class RegistryMethods(EngineBase):
    """Inherited by Engine."""

    def register(self, definition: ResourceDefinition[Any]) -> None:
        """Register a resource by its name.

        Raises:
            DefinitionError: It was not made by ``@resource``.
        """
        self.resource_container.register(definition)

    def get_resource_provider(self, name: str) -> Provider[Any]:
        """The provider function of a resource.

        Raises:
            ResourceNotFoundError: Nothing is registered under ``name`` (a NameError).
        """
        return self.resource_container.get_provider(name)

    def override_resource_provider(self, name: str, new_provider: Any) -> None:
        """Use another provider for the resource ``name`` in all runs that begin from now on.

        A generator function inherits the scope, the thread and the deadline of the provider that it
        replaces. For the duration of a test, use ``cs.override_resource``.

        Raises:
            DefinitionError: It is neither a generator function nor made by ``@resource``.
        """
        self.resource_container.override_provider(name, new_provider)

    def register_blueprint(self, blueprint_id: str, blueprint: Blueprint) -> None:
        """Let ``TailCall(target_blueprint_id=…)`` find ``blueprint``, on both paths."""
        self.blueprints.register(blueprint_id, blueprint)
