"""Draws random programs."""

import functools
import itertools
from collections import OrderedDict, defaultdict, deque
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st
from tests.differential.programs import (
    CAPACITIES,
    Arg,
    Box,
    Call,
    Cancel,
    Catch,
    Change,
    Const,
    Endless,
    Fail,
    Fold,
    Gather,
    Give,
    Handler,
    Job,
    Joins,
    Lit,
    Loop,
    Map,
    Operator,
    OrElse,
    Pack,
    Pair,
    Point,
    Program,
    Reader,
    Ref,
    Route,
    Sleep,
    Source,
    Split,
    Step,
    Stream,
    Tries,
    Uncalled,
    no_delay,
)

from cascade.spec.errors import CascadeError

_consts = st.one_of(
    st.integers(0, 7), st.sampled_from(["", "a", "b", None]), st.just([]), st.just([1, [2]])
).map(Const)
_pauses = st.sampled_from([None, None, 0, 1, 3])
_readers = st.just(Const(Reader()))
#: Calls that return an iterator.
_reading = st.builds(
    Call, st.builds(Job, st.just("any"), _pauses, st.just(Give(Box(list, (Const(Reader()),)))))
)
_modes = st.sampled_from(["auto"] * 6 + ["blocking", "inline"])
_priorities = st.sampled_from([0] * 8 + [-1, 1, 5])
_rarely = st.sampled_from([False] * 4 + [True])
_KINDS = [*[list, tuple, dict, set, Point] * 2, frozenset, deque, OrderedDict, defaultdict, Pair]
_tries = st.sampled_from(
    [None] * 6
    + [
        Tries(0, 2),
        Tries(1, 2),
        Tries(2, 3, delay=no_delay),
        Tries(1, 4),
        Tries(1, 2, True),
        Tries(2, 3, True),
    ]
)
_takes = st.sampled_from([()] * 6 + [(("gpu", 1),), (("disk", 0.5), ("gpu", 2))])
#: The signatures whose tasks take an argument, and get others by their defaults.
_supplied = ["file", "cursor", "session", "bound", "pool", "hub", "late"]
_signatures = st.sampled_from(["any", "any", "any", "some", "some", "full", "full", *_supplied])
_errors = st.one_of(
    st.just((Exception,)),
    st.lists(st.sampled_from([ValueError, LookupError, TypeError, ArithmeticError, CascadeError]),
             min_size=1, max_size=2).map(tuple),
)  # fmt: skip
_going_on = ["named", "placed", "unnamed", "kept", "lazy n", "tail", "target", "id", "id, unnamed",
             "generation"]  # fmt: skip
_going_wrong = ["unknown name", "too many", "missing", "unknown id"]
_fails = st.one_of(
    st.just(Fail(StopIteration, "over")),
    st.sampled_from([None, "tail", "map"]).map(Uncalled),
    st.sampled_from(["raised", "awaited", "at once", "later", "swallowed", "returned"]).map(Cancel),
    st.builds(Fail, st.sampled_from([ValueError, KeyError, ZeroDivisionError]),
              st.sampled_from(["one", "two", "three"])),
)  # fmt: skip


@dataclass(frozen=True)
class Profile:
    """The parts of programs of a kind.

    Attributes:
        fails: Out of 100 tasks, how many raise; likewise turns of loops that do not fit.
        cycles: Whether bodies may mention shared lazy values that may wait for them.
        caches: Whether calls may be cached.
        depth: Levels of nesting.
        shared: Most shared lazy values.
        joins: Whether the target joins nodes that may be skipped or fail (M26, M27).
        windows: Whether maps may read their columns item by item, and fold (M29); durable runs
            refuse those.
    """

    fails: int = 0
    cycles: bool = False
    caches: bool = True
    depth: int = 3
    shared: int = 4
    joins: bool = False
    windows: bool = True


@functools.cache
@st.composite
def programs(draw: Any, profile: Profile) -> Program:
    count = draw(st.integers(0, profile.shared))
    parts = [
        draw(lazies(profile, profile.depth, place, count if profile.cycles else place))
        for place in range(count)
    ]
    before = count
    if draw(_rarely):
        parts += draw(_shared_chains(profile, max(profile.depth - 2, 1), count))
        count = len(parts)
    late: Any = ()
    if count > 1:
        edge = st.tuples(
            st.integers(0, count - 1),
            st.sampled_from(["after", "run_if"]),
            st.integers(0, count - 1),
        ).filter(lambda found: profile.cycles or found[0] > found[2])
        late = tuple(draw(st.lists(edge, max_size=2)))
    target = draw(
        _joining(profile, count)
        if profile.joins
        else st.one_of(
            lazies(profile, profile.depth, count, count),
            values(profile, profile.depth, count, count, False),
        )
    )
    if profile.windows and draw(st.integers(0, 7)) == 7:
        inner = values(profile, profile.depth - 1, count, count, False)
        windowed = _maps(profile, profile.depth - 1, count, inner, True)
        target = Box(list, (target, draw(windowed)))
    if count > before:
        used = draw(st.lists(st.integers(before, count - 1), min_size=1, max_size=3))
        target = Box(list, (target, *map(Ref, used)))
    return Program(tuple(parts), late, target)


@functools.cache
def values(
    profile: Profile, depth: int, made: int, met: int, in_body: bool
) -> st.SearchStrategy[Any]:
    """Any expression.

    ``made``: shared values that exist when it is made; ``met``: that bodies in it may mention.

    Cached, as all that makes strategies here: hypothesis checks each one that it meets, which for
    strategies made anew took four fifths of the time.
    """
    plain: list[st.SearchStrategy[Any]] = [_consts, _readers] if profile.fails else [_consts]
    if in_body:
        plain.append(st.builds(Arg, st.integers(0, 3)))
    if not depth:
        return st.one_of(*plain, *_refs(met if in_body else made))
    return st.deferred(lambda: _nested(profile, depth, made, met, in_body, tuple(plain)))


@functools.cache
def _nested(
    profile: Profile, depth: int, made: int, met: int, in_body: bool, plain: tuple[Any, ...]
) -> st.SearchStrategy[Any]:
    inner = values(profile, depth - 1, made, met, in_body)
    few = st.lists(inner, max_size=3).map(tuple)
    boxes = st.builds(Box, st.sampled_from(_KINDS), few)
    calls = lazies(profile, depth, made, met, in_body)
    refs = _refs(met if in_body else made)
    return st.one_of(*plain, boxes, calls, calls, st.builds(Lit, inner), *refs)


@functools.cache
def _refs(count: int) -> list[st.SearchStrategy[Any]]:
    return [st.builds(Ref, st.integers(0, count - 1))] if count else []


@functools.cache
@st.composite
def lazies(
    draw: Any, profile: Profile, depth: int, made: int, met: int, in_body: bool = False
) -> Any:
    """An expression that gives a lazy value."""
    depth = max(depth - 1, 0)
    inner = values(profile, depth, made, met, in_body)
    kind = draw(
        st.sampled_from(
            ["call"] * 6
            + ["loop", "map", "or_else"] * 2
            + ["catch"] * (3 if profile.fails else 1)
            + ["gather", "route", "source", "split", "operator", "sleep"]
        )
    )
    if kind == "source":
        return draw(
            st.sampled_from([Source("limit", 1), Source("name", "us"), Source("other", "x")])
        )
    if kind == "operator":
        return draw(_operators(profile, inner))
    if kind == "sleep":
        return Sleep(draw(inner))
    if kind == "or_else":
        return draw(_or_elses(lazies(profile, depth, made, met, in_body), inner))
    if kind == "catch":
        return draw(_catches(profile, depth, made, met, in_body, inner))
    if kind == "gather":
        joins = draw(_joins(profile, depth, met, inner))
        return Gather(tuple(draw(st.lists(inner, max_size=3))), joins)
    if kind == "route":
        keys = draw(st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True))
        selectors = st.one_of(
            st.sampled_from(keys).map(Const),
            st.builds(
                Call,
                st.builds(Job, st.just("any"), _pauses, st.sampled_from(keys).map(Const).map(Give)),
            ),
            *([inner] if profile.fails else []),
        )
        return Route(draw(selectors), tuple((key, draw(inner)) for key in keys))
    if kind == "map":
        return draw(_maps(profile, depth, met, inner, profile.windows and draw(_rarely)))
    run_if = draw(st.one_of(st.none(), st.none(), inner))
    after = tuple(draw(st.lists(inner, max_size=1)))
    cached = draw(_cached(profile))
    if kind == "loop":
        loop = draw(_loops(profile, depth, met))
        acc = draw(st.lists(inner, max_size=1))
        amounts = draw(_amounts(profile, inner, bool(cached)))
        return Call(loop, (Const(0), *acc), (), run_if, after, cached, amounts)
    nout = draw(st.integers(1, 3)) if kind == "split" else None
    job = draw(_jobs(profile, depth, met, _signatures, nout))
    args, kwargs = draw(_arguments(job.signature, inner))
    if profile.fails and job.tries is not None and job.signature == "any" and draw(_rarely):
        args += (draw(_reading),)
    amounts = draw(_amounts(profile, inner, bool(cached) or job.cached))
    call = Call(job, args, kwargs, run_if, after, cached, amounts)
    if kind == "split":
        return Gather((Split(call, draw(st.sampled_from([list, tuple, dict]))),))
    return call


@functools.cache
def _cached(profile: Profile) -> st.SearchStrategy[bool | None]:
    """Whether a call is cached; mostly as its task declares."""
    return st.sampled_from([None] * 4 + ([True, False] if profile.caches else [None]))


@functools.cache
def _or_elses(lazy: Any, inner: Any) -> st.SearchStrategy[OrElse]:
    return st.builds(OrElse, st.one_of(_skipped(inner), lazy), inner)


@functools.cache
def _catches(
    profile: Profile, depth: int, made: int, met: int, in_body: bool, inner: Any
) -> st.SearchStrategy[Catch]:
    lazy = lazies(profile, depth, made, met, in_body)
    lazy = st.one_of(_failing(inner), lazy) if profile.fails else lazy
    return st.builds(Catch, lazy, _handlers(profile, depth, met, inner))


@functools.cache
def _joining(profile: Profile, count: int) -> st.SearchStrategy[Gather]:
    """A target with several nodes that may have a value although their inputs have none."""
    inner = values(profile, profile.depth - 1, count, count, False)
    lazy = lazies(profile, profile.depth, count, count)
    caught = _catches(profile, profile.depth - 1, count, count, False, inner)
    twice = st.builds(Catch, caught, _handlers(profile, profile.depth - 1, count, inner))
    parts = st.one_of(caught, twice, _or_elses(st.one_of(lazy, caught), inner), lazy)
    joins = _joins(profile, profile.depth - 1, count, inner)
    return st.builds(Gather, st.lists(parts, min_size=1, max_size=4).map(tuple), joins)


@functools.cache
def _skipped(inner: Any) -> st.SearchStrategy[Call]:
    """A call that is skipped, itself or for lack of an input."""
    packs = st.builds(Job, st.just("any"), _pauses, st.just(Pack()))
    itself = st.builds(
        Call, packs, st.lists(inner, max_size=2).map(tuple), run_if=st.just(Const(0))
    )
    return st.one_of(itself, st.builds(Call, packs, st.tuples(itself)))


@functools.cache
def _failing(inner: Any) -> st.SearchStrategy[Call]:
    """A call that fails: itself, as what it continues as, or for lack of inputs."""
    itself = st.builds(Call, st.builds(Job, st.just("any"), _pauses, _fails))
    onward = st.builds(Call, st.builds(Job, st.just("any"), _pauses, itself.map(Give)))
    packs = st.builds(Job, st.just("any"), _pauses, st.just(Pack()))
    boxes = st.builds(Box, st.sampled_from([list, tuple, dict]), st.tuples(inner, itself))
    inputs = st.lists(st.one_of(itself, inner, boxes), min_size=1, max_size=3).map(tuple)
    return st.one_of(itself, onward, st.builds(Call, packs, inputs))


@functools.cache
@st.composite
def _handlers(draw: Any, profile: Profile, depth: int, met: int, inner: Any) -> Handler:
    kinds = draw(_errors)
    kind = draw(st.sampled_from(["value", "task", "task", "error"]))
    if kind == "value":
        return Handler(kinds, draw(_failing(inner) if profile.fails and draw(_rarely) else inner))
    if kind == "error":
        return Handler(kinds, is_given=False)
    signatures = st.sampled_from(["any", "some", "full", "file"])
    job = draw(_jobs(profile, depth, met, signatures))
    if job.tries is not None:  # a handler is called without policies but those of its declaration
        job = replace(job, tries=replace(job.tries, declared=True))
    return Handler(kinds, task=job)


@functools.cache
@st.composite
def _joins(draw: Any, profile: Profile, depth: int, met: int, inner: Any) -> Joins:
    catches = not profile.cycles and draw(_rarely)
    skipped = tuple([draw(inner)] if draw(_rarely) else [])
    handler = draw(_handlers(profile, depth, met, inner)) if draw(_rarely) else None
    is_whole = handler is not None and (handler.is_given or handler.task is not None)
    return Joins(catches, skipped, (handler,) if handler is not None and is_whole else ())


@functools.cache
def _operators(profile: Profile, inner: Any) -> st.SearchStrategy[Operator]:
    """Where nothing may fail: only operators that are defined for all values."""
    two = st.builds(Operator, st.sampled_from(["==", "!="]), st.tuples(inner, inner))
    truth = st.builds(Operator, st.just("not_"), st.tuples(inner))
    negated = st.one_of(two, truth).map(lambda bool_: Operator("~", (bool_,)))
    if not profile.fails:
        return st.one_of(two, truth, negated)
    ordered = st.builds(Operator, st.sampled_from(["<", "+", "divmod"]), st.tuples(inner, inner))
    unary = st.builds(Operator, st.sampled_from(["~", "round"]), st.tuples(inner))
    return st.one_of(two, truth, negated, ordered, unary)


@functools.cache
def _amounts(profile: Profile, inner: Any, cached: bool) -> st.SearchStrategy[Any]:
    """The capacities of a call: known, or given by tasks.

    It is open which of several equal calls is made, so their capacities never fail them.
    """
    known = st.sampled_from([0, 1, 0.5, 1.5]).map(Const)
    number = st.builds(Job, st.just("any"), _pauses, known.map(Give))
    amount = st.one_of(known, st.builds(Call, number))
    if profile.fails and not cached:
        amount = st.one_of(amount, inner)
    some = st.lists(st.tuples(st.sampled_from([*CAPACITIES]), amount), max_size=2)
    return st.one_of(st.just(()), st.just(()), some.map(tuple))


@functools.cache
@st.composite
def _arguments(draw: Any, signature: str, inner: Any) -> Any:
    if signature in _supplied:
        return tuple(draw(st.lists(inner, max_size=1))), ()
    least, most = {"any": (0, 3), "some": (1, 2), "full": (1, 4)}[signature]
    args = tuple(draw(st.lists(inner, min_size=least, max_size=most)))
    names = ["c"] if signature == "some" else ["c", "d", "e"]
    if len(args) == 1:
        names.append("b")
    chosen = draw(st.lists(st.sampled_from(names), max_size=2, unique=True))
    return args, tuple((name, draw(inner)) for name in chosen)


@functools.cache
@st.composite
def _jobs(
    draw: Any, profile: Profile, depth: int, met: int, signatures: Any, nout: int | None = None
) -> Job:
    signature = draw(signatures)
    pauses = draw(_pauses)
    if signature == "bound":
        pauses = None  # a coroutine cannot use a thread-bound resource
    mode = draw(_modes) if pauses is None else "auto"
    body = draw(_bodies(profile, depth, met))
    if nout is not None and not (profile.fails and draw(_rarely)):
        parts = st.lists(values(profile, depth, met, met, True), min_size=nout, max_size=nout)
        body = Give(Gather(tuple(draw(parts))))
    cached = profile.caches and draw(_rarely)
    binds, takes = draw(_rarely), draw(_takes)
    tries, priority = draw(_tries), draw(_priorities)
    return Job(signature, pauses, body, mode, nout, tries, binds, takes, cached, priority)


@functools.cache
def _bodies(profile: Profile, depth: int, met: int) -> st.SearchStrategy[Any]:
    giving = st.builds(Give, values(profile, depth, met, met, True))
    chosen = st.integers(0, 99)
    return chosen.flatmap(
        lambda n: _fails if 99 - n < profile.fails else st.one_of(st.just(Pack()), giving, giving)
    )


@functools.cache
@st.composite
def _loops(draw: Any, profile: Profile, depth: int, met: int) -> Loop:
    pauses = tuple(draw(st.lists(_pauses, min_size=1, max_size=3)))
    value = values(profile, depth, met, met, True)
    tries = draw(_tries)
    if profile.fails and tries is not None:
        value = st.one_of(value, value, _readers, _reading)
    styles = [*_going_on * 3, *(_going_wrong if profile.fails else [])]
    step = st.builds(Step, st.sampled_from(styles), st.integers(0, 2), value)
    steps = tuple(draw(st.lists(step, max_size=4)))
    body = draw(_bodies(profile, depth, met))
    binds, late = draw(_rarely), draw(_rarely)
    return Loop(pauses, steps, body, tries, binds, late, draw(_priorities))


@functools.cache
@st.composite
def _maps(draw: Any, profile: Profile, depth: int, met: int, inner: Any, is_windowed: bool) -> Map:
    cached = draw(_cached(profile))
    joins = draw(_joins(profile, depth, met, inner))
    length = draw(st.integers(0, 6 if is_windowed else 3))
    off = draw(st.booleans()) if profile.fails else False
    reading = _windows(profile, depth, met, inner, length) if is_windowed else st.just((None, None))
    window, fold = draw(reading)

    def column(items: Any, may_be_endless: bool = False) -> Any:
        if off and (may_be_endless or not is_windowed) and draw(_rarely):
            endless = Endless(draw(st.sampled_from([itertools.count, itertools.repeat])))
            return draw(st.sampled_from([endless, Call(Job("any", None, Give(endless)))]))
        size = length + 1 if off and draw(st.booleans()) else length
        if draw(st.integers(0, 3)) == 0:  # a map over a map (R8)
            return draw(_inner_maps(profile, depth, met, items, size))
        if profile.windows and draw(st.integers(0, 1 if is_windowed else 7)) == 0:
            if profile.fails and is_windowed:  # of some items, so that others are read before
                items = st.one_of(*[items] * 6, _failing(inner), _skipped(inner))
            parts = tuple(draw(st.lists(items, min_size=size, max_size=size)))
            kind, error, source = draw(_streams(profile, is_windowed))
            stream = Stream(kind, parts, error)
            return stream if source is None else Call(replace(source, body=Give(stream)))
        parts = tuple(draw(st.lists(items, min_size=size, max_size=size)))
        box = Box(draw(st.sampled_from([list, tuple])), parts)
        if draw(st.booleans()):
            return box
        return Call(Job(draw(st.sampled_from(["any", "file"])), draw(_pauses), Give(box)))

    if draw(st.integers(0, 3)) == 0:
        loop = draw(_loops(profile, depth, met))
        amounts = draw(_amounts(profile, inner, bool(cached)))
        numbers = column(st.integers(0, 3).map(Const))
        return Map(loop, (("n", numbers),), cached, joins, amounts, window, fold)
    job = draw(_jobs(profile, depth, met, st.sampled_from(["some", "any", "file", "pool", "late"])))
    given = [("a", column(inner))]
    if job.signature not in _supplied and draw(st.booleans()):
        shared = st.one_of(inner.map(Lit), st.none())
        fixed = draw(shared)
        given.append(("c", column(inner, True) if fixed is None else fixed))
    amounts = draw(_amounts(profile, inner, bool(cached) or job.cached))
    return Map(job, tuple(given), cached, joins, amounts, window, fold)


@functools.cache
@st.composite
def _windows(draw: Any, profile: Profile, depth: int, met: int, inner: Any, length: int) -> Any:
    """The window and the fold of a map (M29): one of them, or both."""
    window = draw(st.sampled_from([None, 1, 2, 2, 3, 5]))
    if profile.fails and draw(st.integers(0, 19)) == 19:  # what is refused
        fold = draw(st.sampled_from([Fold("coroutine"), Fold(None, (Const(1),)), None]))
        return draw(st.sampled_from([window or 2, 0])), fold
    if window is not None and draw(st.booleans()):
        return window, None
    initial = st.builds(lambda value: (value,), inner)
    if length or profile.fails:
        initial = st.one_of(st.just(()), initial)
    functions = [
        "pack",
        "pack",
        "last",
        *(["+", "lazy", "fails", "stops"] if profile.fails else []),
    ]
    kind = draw(st.integers(0, 3))
    if kind == 0:
        reducer: Any = draw(st.sampled_from(functions))
    elif kind == 1:
        reducer = draw(_loops(profile, depth, met))
    else:
        signatures = ["any", "some", "full", *(["late"] if profile.fails else [])]
        reducer = draw(_jobs(profile, depth, met, st.sampled_from(signatures)))
    if not isinstance(reducer, str) and reducer.tries is not None:
        reducer = replace(reducer, tries=replace(reducer.tries, declared=True))
    return window, Fold(reducer, draw(initial))


@functools.cache
@st.composite
def _streams(draw: Any, profile: Profile, is_windowed: bool) -> Any:
    """The kind and the error of a column that is read once, and the task that gives it, if any.

    Maps without a window refuse async ones (M29).
    """
    kinds = ["iterator", "generator", *(["async"] if is_windowed or profile.fails else [])]
    error = Fail(ValueError, "the source") if profile.fails and draw(_rarely) else None
    source = st.one_of(st.none(), st.builds(Job, st.just("any"), _pauses, st.just(Pack())))
    return draw(st.sampled_from(kinds)), error, draw(source)


@functools.cache
@st.composite
def _inner_maps(draw: Any, profile: Profile, depth: int, met: int, items: Any, size: int) -> Map:
    """A map that another one goes over."""
    job = draw(_jobs(profile, depth, met, st.sampled_from(["some", "any", "file"])))
    parts = Box(list, tuple(draw(st.lists(items, min_size=size, max_size=size))))
    column = draw(st.sampled_from([parts, Call(Job("any", None, Give(parts)))]))
    cached = profile.caches and draw(_rarely)
    joins = draw(_joins(profile, depth, met, items))
    window = draw(st.sampled_from([None] * 7 + [1, 2])) if profile.windows else None
    return Map(job, (("a", column),), cached, joins, window=window)


@functools.cache
@st.composite
def _shared_chains(draw: Any, profile: Profile, depth: int, made: int) -> list[Any]:
    """A map, and maps over it, as shared values."""
    inner = values(profile, depth, made, made, False)
    first = draw(_inner_maps(profile, depth, made, inner, draw(st.integers(0, 3))))
    chain: list[Any] = [first]
    for _ in range(draw(st.integers(1, 3))):
        job = draw(_jobs(profile, depth, made, st.sampled_from(["some", "any", "file"])))
        column = Ref(made + draw(st.integers(0, len(chain) - 1)))
        joins = draw(_joins(profile, depth, made, inner))
        chain.append(Map(job, (("a", column),), joins=joins))
    return chain


@functools.cache
def changes() -> st.SearchStrategy[tuple[Change, ...]]:
    """Constraints that block nothing for long; mostly an empty list."""
    turns = st.sampled_from([0, 0, 1, 2, 5, 20])
    scopes = st.sampled_from(["global", "task:t*", "task:t[0-2]", "task:loop*", "task:*.1"])
    value = st.one_of(
        st.tuples(st.just("pause"), st.sampled_from([0.0005, 0.002])),
        st.tuples(st.just("concurrency"), st.integers(1, 3)),
        st.tuples(st.just("rate_limit"), st.sampled_from(["20000/s", "1000000/s"])),
        st.just((None, None)),
    )
    change = st.builds(lambda t, s, v: Change(t, s, *v), turns, scopes, value)
    return st.one_of(st.just(()), st.lists(change, max_size=4).map(tuple))
