"""ResourceContainer: which resources an engine knows.

It only knows them. What one run has open is in a ResourceSession (``resource_session``), each
resource of which is a ResourceInstance with a life of its own (``resource_instance``); which
provider a marker stands for in a run, and whether it can be had, is told by Providers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from cascade.runtime.bus import MessageBus
from cascade.runtime.resources.instance import TEARDOWN_TIMEOUT
from cascade.runtime.resources.providers import Providers, injections
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


class ResourceContainer:
    """The resources that an engine knows, by name.

    Args:
        bus: That of the engine; the events of a run go to that of the run.
        teardown_timeout: Seconds that closing a resource may take which does not say so itself.

    Raises:
        ArgumentError: ``teardown_timeout`` is no number above 0.
    """

    def __init__(
        self, bus: MessageBus | None = None, teardown_timeout: float = TEARDOWN_TIMEOUT
    ) -> None:
        check_seconds("teardown_timeout", teardown_timeout)
        self.bus = bus
        self._teardown_timeout = teardown_timeout
        # Replaced and never changed: runs that are under way keep what they began with.
        self._registered: Mapping[str, ResourceDefinition[Any]] = {}
        self._overrides: Mapping[str, Override] = {}

    def register(self, definition: ResourceDefinition[Any]) -> None:
        """Make a resource known by its name, in place of one registered before.

        Raises:
            DefinitionError: ``definition`` is not what ``@resource`` makes.
        """
        if not isinstance(definition, ResourceDefinition):
            raise DefinitionError(
                f"register() takes a function decorated with @resource, but got {short(definition)}"
            )
        self._registered = {**self._registered, definition.name: definition}

    def get_provider(self, name: str) -> Provider[Any]:
        """The provider function as it was written, or as it was overridden.

        Raises:
            ResourceNotFoundError: Nothing is registered under ``name`` (a NameError).
        """
        return self.providers().definition(Inject(name, None)).func

    def override_provider(self, name: str, new_provider: Any) -> None:
        """Use another provider for the resource ``name`` from the next run on, however it is asked
        for.

        A plain generator function takes over the scope, the thread and the deadline of the resource
        that it replaces; what ``@resource`` makes brings its own.

        Raises:
            DefinitionError: ``new_provider`` is neither.
        """
        self._overrides = {**self._overrides, name: Override.of(name, new_provider)}

    def providers(self) -> Providers:
        """What a run that begins now is given for its markers."""
        return Providers(self._registered, overrides_in_force(), self._overrides)

    def scan(self, graph: Graph) -> set[str]:
        """The names of the resources that the nodes of ``graph`` ask for."""
        return {wanted.resource_name for wanted, *_ in injections(graph.lazies)}

    def check(self, lazies: Iterable[LazyResult[Any]]) -> None:
        """Refuse nodes whose resources a run that begins now could not have.

        Raises:
            ResourceNotFoundError, CycleError, ResourceError: See ``Providers.check``.
        """
        self.providers().check(lazies)

    def setup(self, run: RunScope) -> ResourceSession:
        """A place for the resources of one run. Nothing is opened before a task asks for it."""
        return ResourceSession(self.providers(), run, self._teardown_timeout)
