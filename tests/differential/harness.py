"""Runs one program by the naive evaluator, as a graph and on the VM's tiers, and compares all."""

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, NamedTuple, Protocol

from tests.differential import naive
from tests.differential.build import CALLERS, canon, tone
from tests.differential.programs import CAPACITIES, PARAMS, Change

import cascade
from cascade.adapters.executors.local import LocalExecutor
from cascade.graph.compiler import BlueprintBuilder
from cascade.graph.disassemble import disassemble
from cascade.runtime.engine import Engine
from cascade.runtime.events import (
    Event,
    InputsAwaited,
    NodesPlanned,
    TaskCached,
    TaskFailed,
    TaskFinished,
    TaskRetrying,
    TaskSkipped,
    TaskStarted,
)
from cascade.runtime.loops.tiers import Tier
from cascade.spec.errors import (
    ArgumentError,
    CascadeError,
    CycleError,
    DependencyMissingError,
    ParameterError,
    ResourceNotFoundError,
    StepLimitError,
    TierError,
)
from cascade.spec.lazy_types import LazyResult

#: The ways to run each program besides the graph path; "auto" is fused where possible.
TIERS: tuple[Tier, ...] = ("interpreted", "generated", "auto")
#: Seconds after which a run counts as a deadlock; far more than any needs.
PATIENCE = 20


class Made(Protocol):
    """One build of a program, with places for its effects."""

    log: list[Any]
    opened: list[str]
    closed: list[str]
    resources: list[Any]
    blueprints: dict[str, Any]
    failures: Counter[Any]

    def target(self) -> Any: ...


Maker = Callable[[ModuleType], Made]


@dataclass
class Outcome:
    """The outcome of one way of running a program."""

    value: str | None = None
    error: BaseException | None = None
    effects: Counter[Any] = field(default_factory=Counter)
    opened: Counter[str] = field(default_factory=Counter)
    closed: Counter[str] = field(default_factory=Counter)
    events: Counter[Any] = field(default_factory=Counter)
    #: Whether a program has not all of the given inputs.
    refused: bool = False
    #: Whether there was something to run.
    authored: bool = True

    def __str__(self) -> str:
        result = self.value if self.error is None else f"{type(self.error).__name__}: {self.error}"
        listed = "".join(f"\n      {n} × {entry}" for entry, n in sorted(self.effects.items()))
        return f"{result}{listed}"


def check(
    maker: Maker,
    printed: str,
    *,
    fail_fast: bool = True,
    watched: bool = False,
    changes: Sequence[Change] = (),
    params: Mapping[str, Any] | None = None,
    limits: Mapping[str, int] | None = None,
) -> None:
    """Hold the graph path and the tiers of the VM path against the naive evaluator.

    Args:
        maker: Makes the program.
        printed: The part of it to show.
        fail_fast: Whether the first error ends the run.
        watched: Compare the events of the two paths, too; runs without subscribers go a shorter
        way.
        changes: Of the engines' constraints, which hold things up and change nothing.
        params: The parameters of the run, which are refused unless they are known before it (M22);
            by default, ``PARAMS``, which are declared.
        limits: ``max_steps`` and ``max_rounds``, as differences to the numbers that the program
            needs; none by default.
    """
    options: dict[str, Any] = {"fail_fast": fail_fast}
    given = Given(PARAMS, [*PARAMS]) if params is None else Given(params)

    def by_path(tier: Tier | None, program: bool = False) -> Outcome:
        return asyncio.run(by_engine(maker, tier, options, watched, program, changes, given))

    evaluator, expected = by_naive(maker, given)
    options |= _limited(evaluator, expected, limits or {})
    outcomes = {"graph": by_path(None)}
    for tier in TIERS:
        outcome = by_path(tier)
        if not isinstance(outcome.error, TierError):  # its target does not get that tier
            outcomes[f"VM, {tier}"] = outcome
    outcome = by_path("auto", program=True)
    if params is None or not isinstance(outcome.error, CycleError):  # met before the parameters
        outcomes["program"] = outcome
    stuck = [outcome for outcome in outcomes.values() if isinstance(outcome.error, AssertionError)]
    if (evaluator.is_open and evaluator.has_caught) or evaluator.is_undecided:
        assert not stuck, f"{stuck[0]}\n{printed}"
        return  # it is open which error a handler got, or whether there was one
    faults = [
        f"{path}: {fault}"
        for path, outcome in outcomes.items()
        for fault in faults_of(outcome, expected, evaluator, fail_fast, bool(changes))
    ]
    graph = outcomes["graph"]
    if not faults and _is_only(evaluator):
        faults += [
            f"{path}: words the only error, or its note, otherwise than the graph (R9)"
            for path, outcome in outcomes.items()
            if _worded(outcome.error, evaluator) != _worded(graph.error, evaluator)
            and not outcome.refused
        ]
    if _tells_the_same(evaluator, fail_fast):
        faults += [
            f"events on the graph only: {graph.events - outcome.events}, "
            f"{path} only: {outcome.events - graph.events}"
            for path, outcome in outcomes.items()
            if outcome.events != graph.events
        ]
    if faults:
        shown = [f"naive: {expected}", *(f"{path}: {o}" for path, o in outcomes.items())]
        raise AssertionError("\n".join([*faults, printed, *shown, _listing(maker)]))


class Given(NamedTuple):
    """The parameters of a run, and the names that are declared."""

    params: Mapping[str, Any]
    declared: Sequence[str] = ()


def _limited(
    evaluator: naive.Naive, expected: Outcome, limits: Mapping[str, int]
) -> dict[str, int]:
    """The options for limits; without those of which the order of nodes decides if they are met."""
    options = {}
    for name, difference in limits.items():
        least, most = evaluator.steps if name == "max_steps" else evaluator.rounds
        limit = max(least + difference, 1)
        if name == "max_rounds" and _share_failures(evaluator):
            continue
        if limit < least:
            evaluator.exceeded = True
        elif limit < most or evaluator.had_equal_calls:
            continue
        options[name] = limit
    if evaluator.exceeded:
        evaluator.errors.append(StepLimitError("too many steps", 0))
        expected.error = expected.error or evaluator.errors[0]
    return options


def _share_failures(evaluator: naive.Naive) -> bool:
    """Whether it is open which of several nodes meet failures, whose retry has new rounds (M20)."""
    calls = Counter(evaluator.log)
    return any(calls[entry] > count + 1 for entry, count in evaluator.failures.items())


def by_naive(maker: Maker, given: Given) -> tuple[naive.Naive, Outcome]:
    made = maker(naive)
    outcome = Outcome()
    evaluator = naive.Naive(made.log)
    try:
        target = made.target()
    except AssertionError:
        raise  # a fault of the generator: the program would hold on every path, and test nothing
    except Exception as error:
        evaluator.errors.append(error)
        outcome.authored = False
    else:
        evaluator = naive.Naive(
            made.log, given.params, made.blueprints, made.resources, CAPACITIES, given.declared
        )
        outcome.value = canon(evaluator.run(target))
    outcome.error = next(iter(evaluator.errors), None)
    evaluator.failures = made.failures
    return evaluator, _filled(outcome, made)


async def by_engine(
    maker: Maker,
    tier: Tier | None,
    options: Mapping[str, Any] | None = None,
    watched: bool = False,
    program: bool = False,
    changes: Sequence[Change] = (),
    given: Given | None = None,
) -> Outcome:
    """Run it on a tier of the VM path; with None, on the graph path.

    With ``program``, ``Engine.compile`` compiles all that can be compiled. The constraints of the
    engine are changed according to ``changes``. At the end no task holds or waits for capacities.
    ``given``: ``PARAMS``, which are declared, by default.
    """
    if watched:  # of the others, the caller has set no context variable
        tone.set(CALLERS)
    given, options = given or Given(PARAMS, [*PARAMS]), options or {}
    limits = {name: limit for name, limit in options.items() if name != "fail_fast"}
    made = maker(cascade)
    outcome = Outcome()
    use_vm = tier is not None
    async with Engine(threads=executor, tier=tier or "auto", capacities=CAPACITIES) as engine:
        changing = asyncio.ensure_future(_change(engine, changes))
        await asyncio.sleep(0)  # the first of them are made before the run
        if watched:
            engine.bus.subscribe(Event, lambda event: outcome.events.update(_told(event)))
        try:
            target = made.target()
            for definition in made.resources:
                engine.register(definition)
            for name, lazy in made.blueprints.items():
                engine.register_blueprint(name, BlueprintBuilder().build(lazy))
            async with asyncio.timeout(PATIENCE):
                if program and _is_lazy(target):
                    compiled = engine.compile(
                        target,
                        fail_fast=options.get("fail_fast", True),
                        params=given.declared,
                    )
                    outcome.refused = not given.params.keys() <= set(compiled.inputs)
                    value = await compiled.run(**given.params, **limits)
                else:
                    value = await engine.run(
                        target,
                        given.params,
                        use_vm=use_vm,
                        late_params=given.declared,
                        **options,
                    )
                outcome.value = canon(value)
        except Exception as error:
            outcome.error = error
            if outcome.refused and isinstance(error, ArgumentError):  # by the text of programs
                outcome.error = ParameterError(str(error), "")
            if isinstance(error, TimeoutError):
                outcome.error = AssertionError("the run does not end")
        changing.cancel()
        resources = engine.capacities
        assert resources.available == CAPACITIES, "not all of the capacities was given back"
        assert not resources._lines, "somebody still waits"
    return _filled(outcome, made)


async def _change(engine: Engine, changes: Iterable[Change]) -> None:
    for change in changes:
        for _ in range(change.turns):
            await asyncio.sleep(0)
        change.make(engine.constraints)


executor = LocalExecutor(name="differential")


def _told(event: Event) -> Counter[Any]:
    """The content of an event, without times and numbers; equal nodes are not told apart."""
    match event:
        case NodesPlanned():
            return Counter({"planned": event.count})
        case TaskSkipped():
            failed = type(event.error).__name__
            return Counter([("TaskSkipped", event.task, event.condition, failed)])
        case TaskRetrying():
            return Counter([("TaskRetrying", event.task)])
        case InputsAwaited():
            return Counter([("InputsAwaited", event.task, event.inputs)])
        case TaskStarted() | TaskFinished() | TaskFailed() | TaskCached():
            return Counter([(type(event).__name__, event.task)])
    return Counter()


def _filled(outcome: Outcome, made: Made) -> Outcome:
    outcome.effects = Counter(made.log)
    outcome.opened, outcome.closed = Counter(made.opened), Counter(made.closed)
    return outcome


def faults_of(
    outcome: Outcome, expected: Outcome, evaluator: naive.Naive, fail_fast: bool, changed: bool
) -> Iterable[str]:
    if outcome.opened != outcome.closed:
        yield f"opened {dict(outcome.opened)}, closed {dict(outcome.closed)} (R9)"
    if not evaluator.errors:
        if outcome.error is not None:
            yield "failed where it should not"
        elif outcome.value != expected.value:
            yield "another value"
        yield from _other_effects(outcome, expected, evaluator, changed)
        return
    if evaluator.exceeded and isinstance(outcome.error, ExceptionGroup):
        for error in outcome.error.exceptions:  # which of them come, and how often, is open
            yield from _not_possible(error, evaluator)
        yield from _impossible(outcome.effects, evaluator)
        return
    if outcome.error is None:
        yield "succeeded where it should fail"
    elif not fail_fast and isinstance(outcome.error, ExceptionGroup):
        yield from _other_errors(outcome.error, evaluator)
        if not any(isinstance(error, _REFUSALS) for error in evaluator.errors):
            yield from _other_effects(outcome, expected, evaluator, changed)
    elif faults := [*_not_possible(outcome.error, evaluator)]:
        yield from faults
    elif not (
        fail_fast
        or not expected.authored
        or isinstance(outcome.error, (DependencyMissingError, *_REFUSALS))
    ):
        yield "a single error in a run that is to go on"
    yield from _impossible(outcome.effects, evaluator)


def _not_possible(error: BaseException, evaluator: naive.Naive) -> Iterable[str]:
    if not any(_alike(error, possible, evaluator) for possible in evaluator.errors):
        possible = ", ".join(sorted({repr(error) for error in evaluator.errors}))
        yield f"its error is none of the possible ones (M13), which are {possible}"


#: Resources with the scope "task".
OF_ATTEMPTS = frozenset({"cursor", "ledger", "session"})
#: Events that may come before anything runs, or instead of running a returned graph.
_REFUSALS = CycleError, ParameterError, ResourceNotFoundError


def _other_effects(
    outcome: Outcome, expected: Outcome, evaluator: naive.Naive, changed: bool
) -> Iterable[str]:
    """Where all that can run did: exactly those effects, but for equal calls made once more."""
    optional = Counter(evaluator.log[place] for place in evaluator.optional)
    if not expected.effects - optional <= outcome.effects <= expected.effects:
        yield "other effects"
    opened = outcome.opened.copy()
    if changed:
        # An attempt whose limits change before its call begins opens its own resources again.
        for name in OF_ATTEMPTS & opened.keys():
            opened[name] = min(opened[name], expected.opened[name])
    if not optional and opened != expected.opened:
        yield f"opened {dict(outcome.opened)} instead of {dict(expected.opened)} (R9)"


def _other_errors(group: ExceptionGroup[Exception], evaluator: naive.Naive) -> Iterable[str]:
    """All that fails is in the group, once, and nothing else."""
    found, expected = _kinds(group.exceptions, evaluator), _kinds(evaluator.errors, evaluator)
    if any(isinstance(error, CycleError) for error in evaluator.errors):
        # On how many nodes of a cycle, or of several, it is met depends on the order.
        found, expected = Counter(set(found)), Counter(set(expected))
    required = expected - _kinds(evaluator.optional_errors, evaluator)
    if evaluator.has_caught:
        # The error of a node that is not caught is one of the errors that it could meet.
        required = Counter()
    if not required <= found <= expected:
        yield f"its errors are {dict(found)} instead of {dict(expected)}"


def _kinds(errors: Iterable[BaseException], evaluator: naive.Naive) -> Counter[Any]:
    return Counter((type(e).__name__, _own_words(e, evaluator)) for e in errors)


def _own_words(error: BaseException, evaluator: naive.Naive) -> str:
    """The text that a path may not change: "" of Cascade's errors."""
    return "" if isinstance(error, CascadeError) else _said(error, evaluator)


def _said(error: BaseException | None, evaluator: naive.Naive) -> str:
    """The text of an error, without addresses, and without what the order in a set decides."""
    said = re.sub(" at 0x[0-9a-f]+", "", str(error))
    if not evaluator.has_unhashable_members:
        return said
    return re.sub("unhashable type: .*", "unhashable type", said)


def _tells_the_same(evaluator: naive.Naive, fail_fast: bool) -> bool:
    """Whether all that can run does, and the evaluator leaves no choice about it."""
    if evaluator.optional or evaluator.exceeded or (evaluator.errors and fail_fast):
        return False
    if evaluator.may_read_more:  # also items without effects
        return False
    return not any(isinstance(error, _REFUSALS) for error in evaluator.errors)


def _worded(error: BaseException | None, evaluator: naive.Naive) -> list[str]:
    """Its text, and the note on where it comes from (R9).

    Of several paths to a node that fails it is open which is told: another user of a shared node
    may be met before or after the failure.
    """
    if isinstance(error, ExceptionGroup) and error.message.endswith("of the run failed"):
        return [_said(error, evaluator), *_worded(error.exceptions[0], evaluator)]
    notes = getattr(error, "__notes__", ())
    if evaluator.has_several_paths:
        notes = [note.partition(", on the path")[0] for note in notes]
    if evaluator.failures:  # which of several items meets the failure is open (``Tries``)
        notes = [re.sub(r" \[item [^\]]*\]", "", note) for note in notes]
    return [_said(error, evaluator), *notes]


def _is_only(evaluator: naive.Naive) -> bool:
    """Whether there is one error and one place to raise it at.

    Which of the nodes on a cycle meets it depends on the order, and so does which of several
    skipped nodes in a set is met first, or of equal calls.
    """
    if len(evaluator.errors) != 1 or evaluator.had_equal_calls or evaluator.exceeded:
        return False
    if isinstance(evaluator.errors[0], CycleError):
        return False
    return not isinstance(evaluator.errors[0], DependencyMissingError) or evaluator.skips == 1


def _alike(error: BaseException, possible: BaseException, evaluator: naive.Naive) -> bool:
    """Cascade words its own errors; those of tasks are to come through as they are."""
    if type(error) is not type(possible):
        return False
    return _own_words(error, evaluator) == _own_words(possible, evaluator)


def _impossible(effects: Counter[Any], evaluator: naive.Naive) -> Iterable[str]:
    """Effects of a failed run that no order of evaluation gives (M13): not dependency-closed."""
    places: dict[Any, list[int]] = {}
    for place, entry in enumerate(evaluator.log):
        places.setdefault(entry, []).append(place)
    for entry, count in effects.items():
        possible = [
            place
            for place in places.get(entry, ())
            if all(evaluator.log[needed] in effects for needed in evaluator.needs[place])
        ]
        # Which of several nodes with these arguments meets the first failures is open (``Tries``),
        # so their effects may come before those of another node than in the evaluator.
        most = len(possible) + (evaluator.failures[entry] if possible else 0)
        if count > most:
            yield f"the effect {entry} came {count} times, but {len(possible)} are possible (M13)"


def _listing(maker: Maker) -> str:
    try:
        target = maker(cascade).target()
        return disassemble(BlueprintBuilder().build(target)) if _is_lazy(target) else ""
    except Exception as error:
        return f"(it does not compile: {error!r})"


def _is_lazy(target: Any) -> bool:
    return isinstance(target, LazyResult)
