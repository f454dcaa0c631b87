"""Sending: the driver's side of the resources of calls that are made in other processes.

In place of a resource an argument has a mark, and the call takes along the providers that the
worker needs to open it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from cascade.spec.culprits import unsendable
from cascade.spec.resource import Inject
from cascade.spec.sent_resources import PackedResource, Provision, SentResource
from cascade.spec.wire import dumps

if TYPE_CHECKING:
    from cascade.runtime.resources.session import ResourceSession


class Sending:
    """The resources that the calls of one run take along. From any thread.

    Args:
        session: The resources of the run.
    """

    def __init__(self, session: ResourceSession) -> None:
        self._session = session
        #: Marker → the providers that its resource needs, and its own as the last.
        self._packed: dict[Inject, list[PackedResource]] = {}
        self._markers: dict[bytes, Inject] = {}

    def sent(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], user: Any
    ) -> tuple[list[Any], dict[str, Any], list[PackedResource]]:
        """The arguments with marks in place of resources, and the providers of these.

        Raises:
            ResourceError: ``user`` cannot have one of them; see ``Providers.check``.
            SendError: A provider cannot be sent.
        """
        packed: dict[bytes, PackedResource] = {}

        def mark(value: Any) -> Any:
            if type(value) is not Inject:
                return value
            self._session.check_use(value, user)
            needed = self._needed(value)
            packed.update((one.token, one) for one in needed)
            return SentResource(needed[-1].token)

        marked = [mark(value) for value in args]
        named = {name: mark(value) for name, value in kwargs.items()}
        return marked, named, [*packed.values()]

    def received(self, named: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of a call that has come back, with the markers of its resources again."""
        markers = self._markers
        return {
            name: markers[value.token] if type(value) is SentResource else value
            for name, value in named.items()
        }

    def _needed(self, wanted: Inject) -> list[PackedResource]:
        found = self._packed.get(wanted)
        if found is None:
            found = self._packed[wanted] = self._pack(wanted)
            self._markers.setdefault(found[-1].token, wanted)
        return found

    def _pack(self, wanted: Inject) -> list[PackedResource]:
        definition = self._session.definition(wanted)
        below: list[PackedResource] = []
        needs: dict[str, bytes] = {}
        for name, needed in definition.needs.items():
            below += self._needed(needed)
            needs[name] = below[-1].token
        provision = Provision(definition, needs)
        try:
            data = dumps(provision)
        except Exception as error:
            raise unsendable(f"the resource '{definition.name}'", definition, error) from None
        token = blake2b(data, digest_size=16).digest()
        return [*below, PackedResource(token, data, self._session.teardown_timeout(definition))]
