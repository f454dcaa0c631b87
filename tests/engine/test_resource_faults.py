"""Random resource graphs with faults: what was opened is closed, once, in reverse (R9, M7).

Setups, bodies and teardowns fail, teardowns take too long, and the run is cancelled at every point
of it; on both paths, in virtual time.
"""

import asyncio
import inspect
import itertools
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.engine.points import Cancel, in_loop

import cascade as cs
from cascade.runtime.events import ResourceAcquired, ResourceReleased

#: No run of these has more points.
ENOUGH = 3000


class Boom(Exception):
    """An error that a setup, a body or a teardown raises on demand."""


# -- programs ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Resource:
    kind: str
    scope: str
    #: Numbers of resources before it.
    needs: tuple[int, ...]
    fault: str | None


@dataclass(frozen=True)
class Job:
    asynchronous: bool
    uses: tuple[int, ...]
    #: Numbers of jobs before it.
    inputs: tuple[int, ...]
    #: How many attempts fail.
    failures: int
    attempts: int


@dataclass(frozen=True)
class Plan:
    resources: tuple[Resource, ...]
    jobs: tuple[Job, ...]

    def is_bound(self, number):
        resource = self.resources[number]
        return resource.kind == "bound" or any(map(self.is_bound, resource.needs))


@st.composite
def plans(draw):
    plan = Plan((), ())
    for _ in range(draw(st.integers(1, 5))):
        plan = Plan((*plan.resources, draw(resources(plan))), ())
    for number in range(draw(st.integers(1, 4))):
        plan = Plan(plan.resources, (*plan.jobs, draw(jobs(plan, number))))
    return plan


@st.composite
def resources(draw, plan):
    kind = draw(st.sampled_from(["plain", "async", "bound"]))
    scope = draw(st.sampled_from(["run", "task"]))
    fit = [
        number
        for number, other in enumerate(plan.resources)
        if (scope == "task" or other.scope == "run")
        and not (kind == "async" and plan.is_bound(number))
    ]
    faults = [None, None, None, "setup", "teardown", *(["slow"] if kind == "async" else [])]
    return Resource(kind, scope, draw(some_of(fit)), draw(st.sampled_from(faults)))


@st.composite
def jobs(draw, plan, number):
    asynchronous = draw(st.booleans())
    every = range(len(plan.resources))
    fit = [n for n in every if not (asynchronous and plan.is_bound(n))]
    return Job(
        asynchronous,
        draw(some_of(fit)),
        draw(some_of(range(number))),
        draw(st.sampled_from([0, 0, 0, 1, 2])),
        draw(st.sampled_from([1, 1, 2])),
    )


def some_of(numbers):
    if not numbers:
        return st.just(())
    return st.lists(st.sampled_from(numbers), unique=True, max_size=3).map(tuple)


# -- checks of a run --------------------------------------------------------------------------


class Instance:
    """One time that a provider came to its ``yield``."""

    def __init__(self, name, scope, needs):
        self.name, self.scope, self.needs = name, scope, needs

    def __repr__(self):
        return self.name


class Ledger:
    """The openings and closings, and a check of their order."""

    def __init__(self):
        self.open = []
        self.count = 0
        self.raised = []
        self.inside = 0
        #: Task-scoped instances that one call was handed.
        self.handed = []
        self.closed = []

    def opening(self, name, scope, needs):
        instance = Instance(name, scope, needs)
        assert all(needed in self.open for needed in needs)
        self.open.append(instance)
        self.count += 1
        return instance

    def closing(self, instance):
        """All its users are closed, and of the run's resources the last one comes first."""
        assert instance in self.open, f"{instance} is closed twice"
        users = [other for other in self.open if instance in other.needs]
        assert not users, f"{instance} is closed before {users}"
        if instance.scope == "run":
            assert [other for other in self.open if other.scope == "run"][-1] is instance

    def close(self, instance):
        self.open.remove(instance)
        self.closed.append(instance)

    def fail(self, what):
        error = Boom(what)
        self.raised.append(error)
        raise error

    def check(self):
        assert self.open == []
        assert self.inside == 0
        assert len(self.closed) == self.count
        when = {instance: number for number, instance in enumerate(self.closed)}
        for instances in self.handed:  # in the order in which they were opened
            assert instances == sorted(instances, key=when.get, reverse=True)


class Build:
    """A plan as tasks and resources that write into a ledger."""

    def __init__(self, plan, ledger):
        self._ledger = ledger
        self._plan = plan
        self._providers = []
        for number, resource in enumerate(plan.resources):
            self._providers.append(self._resource(number, resource))
        self._nodes = []
        for job in plan.jobs:
            self._nodes.append(self._job(job))

    @property
    def target(self):
        return cs.gather(*self._nodes)

    def _resource(self, number, resource):
        name, ledger = f"r{number}", self._ledger

        def plain(**needs):
            if resource.fault == "setup":
                ledger.fail(f"setup {name}")
            instance = ledger.opening(name, resource.scope, list(needs.values()))
            yield instance
            ledger.closing(instance)
            ledger.close(instance)
            if resource.fault == "teardown":
                ledger.fail(f"teardown {name}")

        async def coroutine(**needs):
            await asyncio.sleep(number % 2)
            if resource.fault == "setup":
                ledger.fail(f"setup {name}")
            instance = ledger.opening(name, resource.scope, list(needs.values()))
            yield instance
            ledger.closing(instance)
            try:
                await asyncio.sleep(3600 if resource.fault == "slow" else 1)
            except asyncio.CancelledError:
                assert resource.fault == "slow", f"the teardown of {name} was cancelled"
                raise
            finally:
                ledger.close(instance)
            if resource.fault == "teardown":
                ledger.fail(f"teardown {name}")

        provide = coroutine if resource.kind == "async" else plain
        provide.__signature__ = inspect.Signature(
            inspect.Parameter(
                f"p{need}", inspect.Parameter.KEYWORD_ONLY, default=cs.inject(self._providers[need])
            )
            for need in resource.needs
        )
        bound = resource.kind == "bound"
        return cs.resource(name, resource.scope, bound, teardown_timeout=60)(provide)

    def _job(self, job):
        ledger, attempts = self._ledger, itertools.count()

        def enter(given):
            assert all(instance in ledger.open for instance in given)
            own = [instance for instance in given if instance.scope == "task"]
            ledger.handed.append(sorted(own, key=ledger.open.index))
            if next(attempts) < job.failures:
                ledger.fail("body")

        def plain(_inputs, *given):
            enter(given)
            return 1

        async def coroutine(_inputs, *given):
            ledger.inside += 1
            try:
                await asyncio.sleep(1)
                enter(given)
                return 1
            finally:
                ledger.inside -= 1

        task = cs.task(coroutine if job.asynchronous else plain)
        given = [cs.inject(self._providers[number]) for number in job.uses]
        lazy = task([self._nodes[number] for number in job.inputs], *given)
        return lazy.with_retry(job.attempts, delay=1) if job.attempts > 1 else lazy


# -- runs -------------------------------------------------------------------------------------


class Trial:
    """One run of a plan, with a cancel at one of its points, if any."""

    def __init__(self, plan, engine, use_vm):
        self.ledger = Ledger()
        self._plan = plan
        self._engine = engine
        self._use_vm = use_vm
        self._told = Counter()
        self._cancels = [
            engine.bus.subscribe(ResourceAcquired, self._acquired),
            engine.bus.subscribe(ResourceReleased, self._released),
        ]
        self._released_count = 0

    def _acquired(self, event):
        self._told[event.resource_name] += 1

    def _released(self, event):
        self._told[event.resource_name] -= 1
        self._released_count += 1

    async def run(self, point):
        """Whether the cancel came before the end of the run."""
        loop = asyncio.get_running_loop()
        target = Build(self._plan, self.ledger).target
        running = asyncio.ensure_future(self._engine.run(target, use_vm=self._use_vm))
        cancel = Cancel(running)
        loop.watch({} if point is None else {point: cancel})
        await asyncio.wait([running])
        loop.unwatch()
        for end in self._cancels:
            end()
        self._check(running, cancel.accepted)
        return cancel.accepted

    def _check(self, running, cancelled):
        self.ledger.check()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert self._released_count == self.ledger.count
        assert not +self._told
        if running.cancelled():
            assert cancelled
            return
        error = running.exception()
        if error is None:
            assert running.result() == [1] * len(self._plan.jobs)
        else:
            self._check_error(error)

    def _check_error(self, error):
        """It is the raised error, and no later one hides anything."""
        together = error.exceptions if isinstance(error, ExceptionGroup) else [error]
        for one in together:
            assert one in self.ledger.raised or isinstance(one, cs.errors.ResourceTimeoutError)
        if not isinstance(error, ExceptionGroup) and not isinstance(
            error, cs.errors.ResourceTimeoutError
        ):
            said = "\n".join(error.__notes__)
            if "teardown" not in str(error):
                late = [e for e in self.ledger.raised if "teardown" in str(e)]
                at_the_end = [e for e in late if self._is_of_the_run(e)]
                assert all(str(e) in said for e in at_the_end)

    def _is_of_the_run(self, error):
        number = int(str(error).rpartition("r")[2])
        return self._plan.resources[number].scope == "run"


SETTINGS = settings(
    max_examples=max(settings().max_examples // 5, 5),
    deadline=None,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.function_scoped_fixture,
    ],
)


#: Of the points of a run, how far those at which it is cancelled are apart; all with more examples.
EVERY = 3 if settings().max_examples < 100 else 1
#: The one that opens on the loop yields between the other one and when the loop knows of that.
OVERLAPPING = Plan(
    (Resource("async", "run", (), None), Resource("plain", "run", (), None)),
    (Job(False, (1,), (), 0, 1), Job(False, (0,), (), 0, 1)),
)


@SETTINGS
@given(plan=plans())
@example(plan=OVERLAPPING)
def test_a_cancel_at_any_point_of_any_program_leaves_nothing_open(use_vm, plan):
    async def main():
        async with cs.Engine() as engine:
            await Trial(plan, engine, use_vm).run(None)
            for point in range(len(plan.jobs) % EVERY, ENOUGH, EVERY):
                if not await Trial(plan, engine, use_vm).run(point):
                    break
            assert point < ENOUGH - EVERY

    in_loop(main)


@settings(SETTINGS, max_examples=2 * settings().max_examples)
@given(plan=plans())
@example(plan=OVERLAPPING)
def test_faults_anywhere_in_any_program_leave_nothing_open(use_vm, plan):
    async def main():
        async with cs.Engine() as engine:
            await Trial(plan, engine, use_vm).run(None)

    in_loop(main)


@pytest.mark.parametrize("fault", ["twice", "order", "shield"])
def test_the_ledger_detects_each_kind_of_fault(fault):
    ledger = Ledger()
    base = ledger.opening("base", "run", [])
    top = ledger.opening("top", "run", [base])
    if fault == "order":
        with pytest.raises(AssertionError, match="base is closed before"):
            ledger.closing(base)
        return
    ledger.closing(top)
    ledger.close(top)
    if fault == "twice":
        with pytest.raises(AssertionError, match="top is closed twice"):
            ledger.closing(top)
        return
    with pytest.raises(AssertionError):
        ledger.check()
