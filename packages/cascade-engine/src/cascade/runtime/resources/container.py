"""ResourceContainer: the resources registered with an engine.

It only registers them. A ResourceSession (``session``) has the open resources of one run, and
EngineResources (``engine_scope``) those that all runs share. Each is a ResourceInstance
(``instance``) with a life of its own. Providers (``providers``) finds the provider of each marker
in a run, and checks whether it is available.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from cascade.runtime.bus import MessageBus
from cascade.runtime.execution.abandoned import AbandonedCalls
from cascade.runtime.options import TEARDOWN_TIMEOUT
from cascade.runtime.resources.engine_scope import EngineResources
from cascade.runtime.resources.providers import Providers, check_lives, injections
from cascade.runtime.resources.session import ResourceSession
from cascade.spec.checks import check_seconds
from cascade.spec.errors import DefinitionError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.overrides import Override, overrides_in_force
from cascade.spec.resource import Inject, Provider, ResourceDefinition
from cascade.spec.wording import short

if TYPE_CHECKING:
    from cascade.graph.model import Graph
    from cascade.runtime.execution.scope import RunScope

#: Name → resource; and the overrides of the process and of the engine by name.
Registered: TypeAlias = tuple[
    Mapping[str, ResourceDefinition[Any]], Mapping[str, Override], Mapping[str, Override]
]


class ResourceContainer:
    """The resources that an engine knows, by name.

    Args:
        bus: The engine's bus; events of a run go to the bus of the run.
        teardown_timeout: Default of the seconds that closing a resource may take.
        abandoned: Counts the engine's calls that are no longer waited for.

    Raises:
        ArgumentError: ``teardown_timeout`` is not a number > 0.
    """

    def __init__(
        self,
        bus: MessageBus | None = None,
        teardown_timeout: float = TEARDOWN_TIMEOUT,
        abandoned: AbandonedCalls | None = None,
    ) -> None:
        check_seconds("teardown_timeout", teardown_timeout)
        self.bus = bus
        self._engine = EngineResources(
            bus or MessageBus(), abandoned or AbandonedCalls(), teardown_timeout
        )
        self._teardown_timeout = teardown_timeout
        # Replaced, never changed: active runs keep the mapping that they began with.
        self._registered: Mapping[str, ResourceDefinition[Any]] = {}
        self._overrides: Mapping[str, Override] = {}

    def register(self, definition: ResourceDefinition[Any]) -> None:
        """Register a resource by its name; replaces one registered before.

        Raises:
            DefinitionError: ``definition`` was not made by ``@resource``.
            ResourceError: It outlives a registered resource that it needs, or is needed by one that
                outlives it.
        """
        if not isinstance(definition, ResourceDefinition):
            raise DefinitionError(
                f"register() takes a function decorated with @resource, but got {short(definition)}"
            )
        registered = {**self._registered, definition.name: definition}
        check_lives(registered)
        self._registered = registered

    def get_provider(self, name: str) -> Provider[Any]:
        """The provider function as it was written, or as it was overridden.

        Raises:
            ResourceNotFoundError: Nothing is registered under ``name`` (a NameError).
        """
        return self.providers().definition(Inject(name, None)).func

    def override_provider(self, name: str, new_provider: Any) -> None:
        """Use another provider for the resource ``name`` from the next run on, for all its users.

        A generator function inherits the scope, the thread and the deadline of the resource that it
        replaces; a resource made by ``@resource`` has its own.

        Raises:
            DefinitionError: ``new_provider`` is neither.
        """
        self._overrides = {**self._overrides, name: Override.of(name, new_provider)}

    def providers(self) -> Providers:
        """The providers for a run that begins now."""
        return Providers(*self.registered_now())

    def registered_now(self) -> Registered:
        """All that providers depend on; costs next to nothing."""
        return self._registered, overrides_in_force(), self._overrides

    def scan(self, graph: Graph) -> set[str]:
        """The names of the resources that the nodes of ``graph`` ask for."""
        return {wanted.resource_name for wanted, *_ in injections(graph.lazies)}

    def check(self, lazies: Iterable[LazyResult[Any]]) -> None:
        """Refuse nodes whose resources would be unavailable in a run that begins now.

        Raises:
            ResourceNotFoundError, CycleError, ResourceError: See ``Providers.check``.
        """
        self.providers().check(lazies)

    def setup(self, run: RunScope, registered: Registered | None = None) -> ResourceSession:
        """The resources of one run; each is opened when a task first asks for it.

        Args:
            run: The run.
            registered: The result of ``registered_now`` at its beginning.
        """
        found = registered or self.registered_now()
        providers = Providers(*found, is_durable=run.is_durable)
        return ResourceSession(providers, run, self._engine, self._teardown_timeout)

    async def close(self, error: BaseException | None = None) -> None:
        """Close the engine's resources; see ``EngineResources.close``."""
        await self._engine.close(error)
