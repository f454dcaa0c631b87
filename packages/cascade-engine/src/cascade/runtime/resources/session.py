"""ResourceSession: the open resources of one run. Attempt: those of one attempt of a task.

- scope ``run``: opened at first use, closed at the end of the run.
- scope ``task``: opened for one attempt of one task, closed at its end.
- scope ``engine``: see ``engine_scope``.
- Open resources are closed once each, in the reverse order of opening, one after the other,
  whatever the others do, and however often the run is cancelled meanwhile.
- Resources that an *abandoned* call uses (M8) stay open until it has ended, whatever the scope. A
  separate task closes them, because the run does not wait for an abandoned call. If the event loop
  ends first, they are closed then, if possible.
- *shared* resources are those of a run or an engine that are not bound to a thread. Once open they
  are values for calls on any thread, which need no Attempt: ``ready`` returns them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from cascade.runtime.execution.placement import wants_resources
from cascade.runtime.resources.closing import close_all, end_of_call
from cascade.runtime.resources.engine_scope import EngineResources
from cascade.runtime.resources.given import GivenArguments
from cascade.runtime.resources.instance import ResourceInstance
from cascade.runtime.resources.providers import Providers
from cascade.runtime.resources.threads import BoundThread
from cascade.spec.kept_calls import OF_CALLS, transaction
from cascade.spec.lazy_types import LazyResult
from cascade.spec.operation import Operation
from cascade.spec.resource import Inject, ResourceDefinition

if TYPE_CHECKING:
    from cascade.runtime.execution.scope import RunScope

#: Tasks that close resources of abandoned calls; kept, because an event loop holds tasks weakly.
_CLOSERS: set[asyncio.Task[None]] = set()


class ResourceSession(GivenArguments):
    """The open resources of one run.

    Args:
        providers: Finds the provider of each marker.
        run: The run.
        engine: The resources of its engine.
        teardown_timeout: Default of the seconds that closing a resource may take.
    """

    def __init__(
        self,
        providers: Providers,
        run: RunScope,
        engine: EngineResources,
        teardown_timeout: float,
    ) -> None:
        super().__init__(providers)
        self._engine = engine
        self._run = run
        self._teardown_timeout = teardown_timeout
        self._open: dict[ResourceDefinition[Any], ResourceInstance] = {}
        self._bound: BoundThread | None = None
        #: Abandoned call → the run's resources that it uses.
        self._claims: dict[Future[Any], set[ResourceInstance]] = {}
        self._over = False
        #: The last keyword arguments that are all resources and need an Attempt.
        self._last_own: object = None
        #: Marker → whether its resource is shared.
        self._is_shared: dict[Inject, bool] = {}
        #: Marker → the shared resources that have to be open before a worker can have its resource,
        #: which is one of them, or is held; None if the event loop has to open it.
        self._below: dict[Inject, tuple[Inject, ...] | None] = {}
        #: Whether any node, or call, needs the event loop for its resources; needs an Attempt.
        self.needs_loop = self.has_unshared = False
        #: Thread → the shared resources that its present call uses, if it is not the first call of
        #: its node, which tells by itself.
        self.in_use: dict[int, Sequence[ResourceInstance]] = {}

    def check(self, lazies: Iterable[LazyResult[Any]]) -> None:
        """Refuse nodes whose resources are unavailable; see ``Providers.check``."""
        self._providers.check(lazies, self._is_shared, self._shares)

    def check_use(self, wanted: Inject, user: Operation) -> None:
        """Refuse a resource that ``user`` cannot have; see ``Providers.check``."""
        self._providers.check_use(wanted, user)

    def attempt(self) -> Attempt:
        """The resources of one attempt of a task: ``async with session.attempt() as attempt``."""
        return Attempt(self)

    async def close(self, error: BaseException | None = None) -> None:
        """Close everything, last opened first; each once, whatever the others do.

        Resources that abandoned calls use are left out: they are closed when the calls have ended.

        Args:
            error: The error that ended the run, if any: failures to close become notes on it.

        Raises:
            ExceptionGroup: Resources failed to close and the run had succeeded.
        """
        self._over = True
        self.forget()
        self._last_own = None
        if not self._open and self._bound is None:
            return  # nothing was opened, as in most runs
        claimed = set().union(*self._claims.values())
        closing = [i for i in self._open.values() if i not in claimed]
        self._open = {d: i for d, i in self._open.items() if i in claimed}
        try:
            await close_all(closing, error)
        finally:
            if self._bound is not None and not self._claims:
                self._bound.shutdown(wait=False)

    # -- shared resources: from any thread ----------------------------------------------------

    def need_attempt(self, args: Iterable[Any], kwargs: Mapping[str, Any]) -> bool:
        """Whether resources among the arguments of a call need an Attempt, in the event loop."""
        if kwargs is self._last_own:
            return True
        for value in (*args, *kwargs.values()):
            if type(value) is Inject and not self._shares(value):
                if {*map(type, kwargs.values())} == {Inject} and Inject not in map(type, args):
                    self._last_own = kwargs
                return True
        return False

    def _shares(self, wanted: Inject) -> bool:
        known = self._is_shared.get(wanted)
        if known is None:
            try:
                bound = self._providers.is_bound(wanted)
            except Exception:  # it is unavailable: the attempt will raise that
                known = False
            else:
                known = not bound and self._providers.definition(wanted).scope != "task"
            self._is_shared[wanted] = known
            if known:
                self._find_open(wanted)
            else:
                self.has_unshared = True
                self.needs_loop = self.needs_loop or self.below(wanted) is None
        return known

    def _find_open(self, wanted: Inject) -> None:
        """Let ``wanted`` be ``ready`` if the engine has opened it for another run."""
        if self._providers.definition(wanted).scope == "engine":
            found = self._engine.open_one(wanted, self._providers, self._run.loop)
            if found is not None:
                self.share(wanted, found)

    def travel(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        """Whether a worker process can open the resources of a call."""
        if not wants_resources(args, kwargs):
            return True
        try:
            return not any(
                type(value) is Inject and self._providers.refusal(value)
                for value in (*args, *kwargs.values())
            )
        except Exception:  # one is unavailable: the attempt will raise that
            return False

    def needs_event_loop(self, args: Iterable[Any], kwargs: Mapping[str, Any]) -> bool:
        """Whether a plain call is given resources that no worker can open; see ``held``."""
        for value in (*args, *kwargs.values()):
            if type(value) is Inject and self.below(value) is None:
                return True
        return False

    def all_below(self, args: Iterable[Any], kwargs: Mapping[str, Any]) -> Iterator[Inject]:
        """The shared resources that workers need for a call; see ``below``."""
        for value in (*args, *kwargs.values()):
            if type(value) is Inject:
                yield from self.below(value) or ()

    def below(self, wanted: Inject) -> tuple[Inject, ...] | None:
        """The shared resources that a worker needs for ``wanted``; None if that is not enough."""
        try:
            return self._below[wanted]
        except KeyError:
            found = self._below[wanted] = self._find_below(wanted)
            return found

    def _find_below(self, wanted: Inject) -> tuple[Inject, ...] | None:
        if self._shares(wanted):
            return (wanted,)
        try:
            bound = self._providers.is_bound(wanted)
        except Exception:  # as above
            return None
        definition = self._providers.definition(wanted)
        if bound or definition.is_async or definition.scope != "task" or definition in OF_CALLS:
            return None
        found: dict[Inject, None] = {}
        for needed in definition.needs.values():
            below = self.below(needed)
            if below is None:
                return None
            found.update(dict.fromkeys(below))
        return tuple(found)

    def teardown_timeout(self, definition: ResourceDefinition[Any]) -> float:
        """Seconds that closing a resource may take."""
        return definition.teardown_timeout or self._teardown_timeout

    def definition(self, wanted: Inject) -> ResourceDefinition[Any]:
        """The resource of ``wanted`` in this run; see ``Providers.definition``."""
        return self._providers.definition(wanted)

    async def open(self, wanted: Inject) -> None:
        """Open a shared resource, from then on ``ready``; in the event loop's thread.

        Raises:
            Exception: That failed, now or before in this run.
        """
        found = self.instance(wanted, {})
        await found.value()
        self.share(wanted, found)

    def share(self, wanted: Inject, found: ResourceInstance) -> None:
        """Let a shared resource that is open be ``ready``; in the event loop's thread."""
        self._shared[self.definition(wanted)] = self.opened[wanted] = found

    def leave_in_use(self, call: Future[Any], thread: int, node: LazyResult[Any] | None) -> None:
        """Keep the shared resources that an abandoned call on a worker uses until it has ended.

        Args:
            call: The call.
            thread: Its thread.
            node: Its node, for ``in_use``.
        """
        used = self.in_use.get(thread)
        if used is None and node is not None:
            wanted = [v for v in (*node.args, *node.kwargs.values()) if type(v) is Inject]
            used = [found for one in wanted if (found := self.ready(one)) is not None]
        if used:
            self.leave_to(call, [], used)

    # -- abandoned calls ----------------------------------------------------------------------

    def let_go(self) -> None:
        """Drop the reference to the ended run, so that no cycle needs the collector."""
        del self._run

    def leave_to(
        self, call: Future[Any], own: list[ResourceInstance], used: Iterable[ResourceInstance]
    ) -> None:
        """Close the resources of an abandoned call when it has ended.

        Args:
            call: The call.
            own: Resources of its attempt alone.
            used: All resources that it was given.
        """
        self._claims[call] = claimed = self._claimed_by(own, used)
        self._engine.claim(call, claimed)

        async def close() -> None:
            await end_of_call(call)
            # ResourceReleased reports failures; nothing waits for this.
            with contextlib.suppress(Exception, asyncio.CancelledError):
                await close_all(own, None)
            del self._claims[call]
            if self._over:
                with contextlib.suppress(Exception, asyncio.CancelledError):
                    await self.close()

        closer = self._run.loop.create_task(close(), name="resources of an abandoned call")
        _CLOSERS.add(closer)
        closer.add_done_callback(_CLOSERS.discard)

    def _claimed_by(
        self, own: list[ResourceInstance], used: Iterable[ResourceInstance]
    ) -> set[ResourceInstance]:
        """The run's resources that a call uses, or that need its thread to close."""
        claimed: set[ResourceInstance] = set()
        todo = [*own, *used]
        while todo:
            instance = todo.pop()
            if instance not in claimed:
                claimed.add(instance)
                todo += instance.needs.values()
        if any(instance.is_bound for instance in claimed):
            claimed.update(i for i in self._open.values() if i.is_bound)
        return claimed.difference(own)

    @property
    def bound_thread(self) -> BoundThread:
        """The one thread of the run's thread-bound resources, started at first use."""
        if self._bound is None:
            self._bound = BoundThread()
        return self._bound

    def instance(
        self, wanted: Inject, own: dict[ResourceDefinition[Any], ResourceInstance]
    ) -> ResourceInstance:
        """The instance for ``wanted``, opening if new; task-scoped ones are added to ``own``."""
        bound = self._providers.is_bound(wanted)
        definition = self._providers.definition(wanted)
        if definition.scope == "engine":
            return self._engine.instance(wanted, self._providers, self._run)
        place = own if definition.scope == "task" else self._open
        found = place.get(definition)
        if found is None:
            needs = {name: self.instance(needed, own) for name, needed in definition.needs.items()}
            found = place[definition] = ResourceInstance(
                definition,
                needs,
                self._run,
                self.bound_thread if bound else None,
                self.teardown_timeout(definition),
            )
        return found


class Attempt:
    """The resources of one attempt; task-scoped ones are closed at its end."""

    def __init__(self, session: ResourceSession) -> None:
        self._session = session
        self._own: dict[ResourceDefinition[Any], ResourceInstance] = {}
        #: All resources that were given to the call.
        self._used: set[ResourceInstance] = set()
        #: Whether the call must be made on the session's bound thread.
        self.bound = False
        #: A call that was abandoned and still uses the open resources.
        self._abandoned: Future[Any] | None = None
        #: Whether the call is given a transaction: its marker stays in the place of that.
        self.transacts = False
        #: The call's idempotency key. To be set, in a durable run.
        self.key: Callable[[], str]

    async def __aenter__(self) -> Attempt:
        return self

    async def __aexit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        own, call = list(self._own.values()), self._abandoned
        if not own and call is None:
            return
        if call is None or call.done() or any(i.loop_ends for i in (*own, *self._used)):
            await close_all(own, error)
        else:
            self._session.leave_to(call, own, self._used)

    def keep_until(self, call: Future[Any]) -> None:
        """Keep everything open until the abandoned ``call`` has ended (M8)."""
        self._abandoned = call

    def is_abandoned(self) -> bool:
        """Whether the call was abandoned (M8). From any thread."""
        return self._abandoned is not None

    async def resolve(
        self, args: Iterable[Any], kwargs: Mapping[str, Any], user: Operation
    ) -> tuple[list[Any], dict[str, Any]]:
        """The arguments with resources in place of their markers; opens them if needed.

        Raises:
            ResourceNotFoundError, CycleError, ResourceError: A tail call led to ``user``, whose
                resources are unavailable; see ``Providers.check``.
            Exception: Opening one failed.
        """
        return (
            [await self._value(v, user) if type(v) is Inject else v for v in args],
            {
                name: await self._value(v, user) if type(v) is Inject else v
                for name, v in kwargs.items()
            },
        )

    async def _value(self, value: Inject, user: Operation) -> Any:
        self._session.check_use(value, user)
        definition = self._session.definition(value)
        if definition in OF_CALLS:
            if definition is not transaction:
                return self.key()
            self.transacts = True
            return value
        instance = self._session.instance(value, self._own)
        self.bound = self.bound or instance.is_bound
        self._used.add(instance)
        return instance.resource if instance.is_ready else await instance.value()
