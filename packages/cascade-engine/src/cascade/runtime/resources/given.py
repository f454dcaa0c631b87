"""GivenArguments: the arguments of calls, with shared resources in place of their markers.

Once a shared resource is open, all calls get the same object. Nodes of one task mostly share one
dict of keyword arguments (``Task.__call__``), so the filled dict of the last node mostly fits the
next one. Keeping it saves most of the cost of a resource.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from cascade.runtime.execution.placement import wants_resources
from cascade.runtime.resources.instance import ResourceInstance
from cascade.runtime.resources.providers import Providers
from cascade.spec.lazy_types import LazyResult
from cascade.spec.resource import Inject, ResourceDefinition

_NONE_GIVEN: Final = (None, dict[str, Any](), ())


class GivenArguments:
    """The open shared resources of one run, as arguments. From any thread.

    Args:
        providers: Finds the provider of each marker.
    """

    def __init__(self, providers: Providers) -> None:
        self._providers = providers
        #: The shared resources that have been opened: by definition, and by the markers that have
        #: asked for them.
        self._shared: dict[ResourceDefinition[Any], ResourceInstance] = {}
        self.opened: dict[Inject, ResourceInstance] = {}
        #: The last keyword arguments that were all open resources; the same dict with the resources
        #: in place of their markers; and the instances.
        self.last_given: tuple[object, dict[str, Any], tuple[ResourceInstance, ...]] = _NONE_GIVEN
        #: The id of the last dict of keyword arguments: only one that comes again is kept.
        self._seen = 0

    def ready(self, wanted: Inject) -> ResourceInstance | None:
        """The instance of a shared resource that is open; None if it is not."""
        found = self.opened.get(wanted)
        if found is None:
            found = self._shared.get(self._providers.definition(wanted))
            if found is None:
                return None
            self.opened[wanted] = found
        return found if found.is_ready else None

    def unopened(self, args: Iterable[Any], kwargs: Mapping[str, Any]) -> Inject | None:
        """The first marker among the arguments of a call without a ``ready`` resource."""
        for value in (*args, *kwargs.values()):
            if type(value) is Inject and self.ready(value) is None:
                return value
        return None

    def given_by_name(self, node: LazyResult[Any]) -> dict[str, Any] | None:
        """The filled keyword arguments of a node, if they are kept; None if they are not.

        None as well if the node is given other resources by position.
        """
        last, given, instances = self.last_given
        if node.kwargs is not last or Inject in map(type, node.args):
            return None
        for instance in instances:
            if not instance.is_ready:
                return None
        return given

    def to(
        self, node: LazyResult[Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Sequence[Any], dict[str, Any]]:
        """The arguments of a node's call with its resources, which all have to be open."""
        named = self.given_by_name(node)
        if named is None:
            args, named = self.given(args, kwargs)
            self.remember(node.kwargs, named)
        return args, named

    def remember(self, kwargs: dict[str, Any], given: dict[str, Any]) -> None:
        """Keep keyword arguments that come a second time, if all of them are resources."""
        if id(kwargs) != self._seen:
            self._seen = id(kwargs)
            return
        found = [self.opened.get(v) if type(v) is Inject else None for v in kwargs.values()]
        instances = tuple([instance for instance in found if instance is not None])
        if kwargs and len(instances) == len(kwargs):
            self.last_given = kwargs, given, instances

    def filled(
        self, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Sequence[Any], Mapping[str, Any]] | None:
        """The arguments of a call with its resources; None unless all are shared and open."""
        if not wants_resources(args, kwargs):
            return args, kwargs
        return None if self.unopened(args, kwargs) is not None else self.given(args, kwargs)

    def given(
        self, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        """``filled`` for a call whose resources are all shared and open."""
        opened = self.opened
        named = {n: opened[v].resource if type(v) is Inject else v for n, v in kwargs.items()}
        return [opened[v].resource if type(v) is Inject else v for v in args], named

    def gives(self, node: LazyResult[Any]) -> bool:
        """Whether all resources of a node are shared and open."""
        if self.given_by_name(node) is not None:
            return True
        return self.unopened(node.args, node.kwargs) is None

    def forget(self) -> None:
        """Give none any more. At the end of the run."""
        self._shared.clear()
        self.opened.clear()
        self.last_given = _NONE_GIVEN
