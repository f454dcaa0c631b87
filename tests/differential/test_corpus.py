"""Nasty programs by hand, each held against the naive evaluator; the rule comes first."""

import asyncio
import functools
import inspect
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from tests.differential.build import canon
from tests.differential.harness import check
from tests.differential.programs import Pair as DataPair
from tests.differential.programs import Point, Reader

Pair = namedtuple("Pair", "left right")


class Ground:
    """The surroundings of a handwritten program: tasks that log, and places for registrations."""

    def __init__(self, program: Callable[["Ground"], Any], cs: ModuleType) -> None:
        self.program = program
        self.cs: Any = cs
        self.log: list[Any] = []
        self.opened: list[str] = []
        self.closed: list[str] = []
        self.resources: list[Any] = []
        self.blueprints: dict[str, Any] = {}
        self.failures: Counter[Any] = Counter()
        self.cache: Any = cs.LRUCache()
        self.same = self.task(lambda value=None: value, "same")
        self.pair = self.task(lambda a, b: (a, b), "pair")
        self.no = self.task(lambda *given: 0, "no")
        self.yes = self.task(lambda *given: 1, "yes")
        self.asame = self.task(lambda value=None: value, "asame", turns=2)

    def target(self) -> Any:
        return self.program(self)

    def task(
        self, func: Callable[..., Any], name: str, turns: int | None = None, **options: Any
    ) -> Any:
        """A task that logs its calls; a coroutine function that gives way ``turns`` times."""

        signature = inspect.signature(func)

        @functools.wraps(func)
        def logged(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            self.log.append((name, canon(bound.arguments)))
            return func(*args, **kwargs)

        @functools.wraps(func)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            for _ in range(turns or 0):
                await asyncio.sleep(0)
            return logged(*args, **kwargs)

        # On a machine that is busy, anything may seem to block.
        make = self.cs.task(name=name, may_block=turns is not None, **options)
        return make(logged if turns is None else awaited)

    def flaky(self, func: Callable[..., Any], failures: int, turns: int | None = None) -> Any:
        """A task that fails in its first calls with each argument."""
        seen: list[Any] = []

        def work(n: Any) -> Any:
            seen.append(n)
            if seen.count(n) <= failures:
                raise OSError(f"failure {seen.count(n)} of {n}")
            return func(n)

        return self.task(work, "flaky", turns)

    def fail(self, error: Exception, turns: int | None = None) -> Any:
        def failing(*given: Any) -> Any:
            raise error

        return self.task(failing, "fail", turns)

    def resource(self, name: str, needs: Any = None, **options: Any) -> Any:
        def alone() -> Iterator[str]:
            self.opened.append(name)
            yield name
            self.closed.append(name)

        def needing(needed: Any = needs) -> Iterator[str]:
            self.opened.append(name)
            yield f"{name} with {needed}"
            self.closed.append(name)

        return self.cs.resource(name=name, **options)(needing if needs else alone)


#: A statement about it → the program.
CASES: dict[str, Callable[[Ground], Any]] = {}


def case(meaning: str) -> Callable[[Callable[[Ground], Any]], Callable[[Ground], Any]]:
    def keep(program: Callable[[Ground], Any]) -> Callable[[Ground], Any]:
        assert meaning not in CASES
        CASES[meaning] = program
        return program

    return keep


# -- R1, R2: values and containers ------------------------------------------------------------


@case("R1: a plain target is itself")
def _(g: Ground) -> Any:
    return [1, "two", None]


@case("R1: a literal target is its value, whatever is in it")
def _(g: Ground) -> Any:
    return g.cs.literal([g.same(1)])


@case("R2, M15: the target itself may be a container of lazy values")
def _(g: Ground) -> Any:
    return {"a": g.same(1), "b": [g.same(2), (g.asame(3),)]}


@case("R2: lazy values in containers in containers, and as keys of a dict")
def _(g: Ground) -> Any:
    return g.same([{g.same("key"): (g.same(1), {g.asame(2)})}, Pair(g.same(3), Point(4, [5]))])


@case("R2: literals shield lazy values, also inside a container")
def _(g: Ground) -> Any:
    hidden = g.same("not to be computed")
    return g.pair(g.cs.literal(hidden), [g.cs.literal([hidden]), g.same(1)])


@case("R2: an unhashable value in a set is the error of the container")
def _(g: Ground) -> Any:
    return g.same({g.same([1]), g.same(2)})


@case("M16, R2: a container that cannot be rebuilt fails, though its user is skipped")
def _(g: Ground) -> Any:
    bad, skipped = {g.same([1]), 2}, g.same().run_if(g.no())
    return g.same("end").after(g.pair(bad, skipped))


@case("M15: a container that a task returns is not searched")
def _(g: Ground) -> Any:
    return g.pair(g.task(lambda: [g.same("inside")], "box")(), 1)


@case("M15: lazy values that a task's argument held as literals may be returned and then run")
def _(g: Ground) -> Any:
    return g.task(lambda values: g.same(values), "search")(g.cs.literal([g.same(1), g.same(2)]))


@case("R2, M15: gather keeps the order and searches what it is given")
def _(g: Ground) -> Any:
    return g.cs.gather(g.asame(1), 2, [g.same(3)], g.cs.gather(), g.cs.literal((g.same(4),)))


@case("M1: *args and **kwargs hold lazy values like any other argument")
def _(g: Ground) -> Any:
    f = g.task(lambda *args, **kwargs: (args, kwargs), "all")
    return f(1, g.same(2), [g.same(3)], x=g.asame(4), y={"z": g.same(5)})


@case("R2: a dict with lazy values keeps its order")
def _(g: Ground) -> Any:
    ordered = {"z": g.asame(1), "a": 2, g.same("m"): 3}
    return g.task(lambda given: list(given), "keys")(ordered)


# -- R3, M14: once per run --------------------------------------------------------------------


@case("R3: one lazy value in many places is computed once")
def _(g: Ground) -> Any:
    shared = g.same(1)
    return g.pair([shared, shared, (shared,)], g.pair(shared, g.cs.gather(shared, g.same(shared))))


@case("M14: a lazy value that only tasks mention is computed once")
def _(g: Ground) -> Any:
    hidden = g.asame("once")
    mention = g.task(lambda n: g.pair(n, hidden), "mention")
    return g.pair([mention(1), mention(2)], mention.map(n=[3, 4]))


@case("M14: two tasks return the very same lazy value")
def _(g: Ground) -> Any:
    hidden = g.same("once")
    give, agive = g.task(lambda: hidden, "give"), g.task(lambda: hidden, "agive", turns=1)
    return g.cs.gather(give(), agive(), give(), hidden)


@case("M14: what a tail call's arguments mention is the same as elsewhere")
def _(g: Ground) -> Any:
    shared = g.asame("once")
    loop = g.task(
        lambda n, x=None: g.cs.TailCall(kwargs={"n": n - 1, "x": shared}) if n else x, "loop"
    )
    return g.pair(loop(3), shared)


@case("M14: behind a blueprint's id, too")
def _(g: Ground) -> Any:
    shared = g.same("once")
    inner = g.task(lambda n: g.pair(n, shared), "inner")
    g.blueprints["inner"] = inner(0)
    start = g.task(lambda: g.cs.TailCall((1,), None, "inner"), "start")
    return g.pair([start(), shared], inner(2))


# -- R4: a task that returns a lazy value -----------------------------------------------------


@case("R4: generations in tail position and inside, sync and async by turns")
def _(g: Ground) -> Any:
    def step(n: int) -> Any:
        return (even if n % 2 else odd)(n - 1) if n else "end"

    even, odd = g.task(step, "even"), g.task(step, "odd", turns=1)
    return g.pair(even(6), [odd(5)])


@case("R4: a returned lazy value brings conditions, order and containers of its own")
def _(g: Ground) -> Any:
    make = g.task(lambda: g.same([g.asame(1)]).run_if(g.yes()).after(g.no()), "make")
    return g.pair(make(), 0)


@case("R4: inner nodes return lazy values whose arguments do so again")
def _(g: Ground) -> Any:
    def down(n: int) -> Any:
        return g.pair(deeper(n - 1), n) if n else "bottom"

    deeper = g.task(down, "down")
    return g.pair(deeper(4), g.task(down, "adown", turns=0)(3))


@case("R4: a task returns a map, a router, a parameter, a gathering")
def _(g: Ground) -> Any:
    route = g.cs.Router
    returned = [
        lambda: g.same.map(value=[1, 2]),
        lambda: route(selector=g.same("b"), routes={"a": g.same(1), "b": g.same(2)}),
        lambda: g.cs.Param("limit", type=int),
        lambda: g.cs.gather(g.same(1), g.same(2)),
        lambda: g.cs.Env("CASCADE_TEST_REGION"),
    ]
    return [g.task(give, f"give{n}")() for n, give in enumerate(returned)]


@case("R4: what tasks return is searched in containers of each kind, at any depth")
def _(g: Ground) -> Any:
    returned = [
        lambda: [g.same(1), (g.asame(2), {"three": g.same(3)})],
        lambda: (g.same(1), [[g.same(1)], 2]),
        lambda: {g.same("key"): [g.same("value")], "plain": 1},
        lambda: {g.same(1), 2},
        lambda: Point([g.same(1)], Pair(1, g.same(2))),
        lambda: frozenset([g.same(1), g.same(2)]),
        lambda: deque([g.same(1), [g.same(2)]], maxlen=2),
        lambda: OrderedDict(b=g.same(1), a=g.same(2)),
        lambda: defaultdict(int, a=g.same(1)),
        lambda: DataPair(g.same(1), [g.same(2)]),
        lambda: [1, [2, (3,)], {"plain": None}],
    ]
    turns = [None, 0, 1]
    return [g.task(f, f"give{n}", turns=turns[n % 3])() for n, f in enumerate(returned)]


@case("R4: a returned container continues as others do, which return containers again")
def _(g: Ground) -> Any:
    def down(n: int) -> Any:
        return [deeper(n - 1), {"at": n}] if n else []

    deeper = g.task(down, "down")
    again = g.task(lambda n, acc=(): [acc, g.same(n)] if n > 2 else again.tail(n + 1, acc), "again")
    return g.pair(deeper(5), again(0))


@case("R4: a lazy value that stands in several returned containers is computed once")
def _(g: Ground) -> Any:
    shared = g.same("shared")
    give = g.task(lambda n: [shared, n, [shared]], "give")
    return [give(1), give(2), shared]


@case("R4: cs.literal shields what a task returns, by itself and inside")
def _(g: Ground) -> Any:
    literal = g.cs.literal
    returned = [
        lambda: literal([g.same("shielded")]),
        lambda: [literal(g.same("shielded")), g.same("found")],
        lambda: {"a": literal([1]), "b": 2},
        lambda: literal("plain"),
    ]
    return [g.task(give, f"give{n}")() for n, give in enumerate(returned)]


@case("R4: tasks and classes in a returned container are values")
def _(g: Ground) -> Any:
    give = g.task(lambda: [len, int, g.same(1)], "give")
    return g.task(lambda found: len(found), "count")(give())


@case("R4: a failing lazy value in a returned container fails the node")
def _(g: Ground) -> Any:
    give = g.task(lambda: [g.same(1), {"b": g.fail(ValueError("inside"))()}], "give")
    return g.pair(give(), 1)


@case("R4: a skipped lazy value in a returned container skips the node")
def _(g: Ground) -> Any:
    give = g.task(lambda: [g.same(1).run_if(g.no())], "give")
    return g.same("after all").after(give())


@case("R4, R8: items of a map return containers, some with errors that are their values")
def _(g: Ground) -> Any:
    def item(n: int) -> Any:
        return [g.same(n), g.fail(ValueError("odd"))() if n % 2 else (g.asame(n),)]

    return g.task(item, "item").map(n=[0, 1, 2, 3], return_exceptions=True)


@case("R4, R10: the cache has the rebuilt container, and parts are taken of it")
def _(g: Ground) -> Any:
    give = g.task(lambda n: [g.same(n), [g.asame(n)]], "give", nout=2)
    first, second = give(1).with_cache(g.cache)
    return [first, second, give(1).with_cache(g.cache).after(second)]


# -- R5, M1, M2, M3: tail calls ---------------------------------------------------------------


@case("R5: what a tail call does not name keeps its last value")
def _(g: Ground) -> Any:
    def step(n: int, acc: int = 0, *, keep: str = "default") -> Any:
        if n == 3:
            return g.cs.TailCall(kwargs={"n": 2, "keep": "changed"})
        return g.cs.TailCall(args=(n - 1, acc + n)) if n else (acc, keep)

    return g.task(step, "step")(4, keep="first")


@case("M1: f(10) and TailCall(kwargs={'n': 9}) meet in one parameter")
def _(g: Ground) -> Any:
    step = g.task(lambda n, m=5: g.cs.TailCall(kwargs={"n": n - 1}) if n else m, "step")
    return g.cs.gather(step(3), step(n=2), step(2, 7), step(m=8, n=1))


@case("M1: positional-only, *args and **kwargs in a loop")
def _(g: Ground) -> Any:
    def step(n: int, /, *rest: int, last: int = 0, **more: int) -> Any:
        if n == 3:
            return g.cs.TailCall(args=(2,), kwargs={"x": 1})
        if n == 2:
            return g.cs.TailCall(args=(1, 7, 8), kwargs={"y": 2, "n": "named n"})
        return g.cs.TailCall(args=(0,), kwargs={"last": 9}) if n else (rest, last, more)

    return g.task(step, "step")(3, 5, 6, z=0)


@case("M1: a switch starts from the other task's defaults")
def _(g: Ground) -> Any:
    second = g.task(lambda n, keep="second's": (n, keep), "second")
    first = g.task(lambda n, keep="first's": second.tail(n + 1), "first")
    return g.cs.gather(first(1, keep="given"), first(5))


@case("M1: a switch that misses an argument is a TypeError that names both tasks")
def _(g: Ground) -> Any:
    second = g.task(lambda n, m: (n, m), "second")
    return g.task(lambda n: second.tail(m=n), "first")(1)


@case("M1: a self tail call with an unknown name")
def _(g: Ground) -> Any:
    return g.task(lambda n: g.cs.TailCall(kwargs={"m": n}), "step")(1)


@case("M1: a self tail call with too many arguments, in an inner node")
def _(g: Ground) -> Any:
    return g.pair(g.task(lambda n: g.cs.TailCall(args=(1, 2)), "step")(1), 0)


@case("M1: items, and inner nodes, whose tail call to a smaller task does not fit")
def _(g: Ground) -> Any:
    small = g.task(lambda a: a, "small")
    step = g.task(lambda n, a=1, b=2, *more, c=3, **named: small.tail(), "step")
    astep = g.task(lambda n, a=1, b=2, *more, c=3, **named: g.cs.TailCall(target=small), "astep", 1)
    items = [task.map(n=[1, 2], return_exceptions=True) for task in (step, astep)]
    return g.pair(items, [step(1), astep(2), g.same("beside")])


@case("R7, R8: the error of a router is that of the item that continues as it")
def _(g: Ground) -> Any:
    item = g.task(lambda n: g.cs.Router(selector=n, routes={1: g.same("route")}), "item")
    return item.map(n=[1, 2, [3]], return_exceptions=True)


@case("M1, R9: a tail call with lazy arguments that does not fit is the fault of who made it")
def _(g: Ground) -> Any:
    return g.pair(g.task(lambda n: g.cs.TailCall((g.same(1), 2)), "step")(1), 0)


@case("M1: an argument given by position and by name")
def _(g: Ground) -> Any:
    return g.task(lambda n, m=0: g.cs.TailCall(args=(1,), kwargs={"n": 2}), "step")(1)


@case("M2: lazy arguments of a tail call are resolved, those in containers too")
def _(g: Ground) -> Any:
    def step(n: int, a: Any = None, b: Any = None) -> Any:
        if n:
            return g.cs.TailCall((g.same(n - 1),), {"a": g.asame("lazy"), "b": [g.same("inside")]})
        return a, b

    return g.pair(g.task(step, "step")(2), 0)


@case("M2: an argument that the last step had is not searched again, a new one is")
def _(g: Ground) -> Any:
    hidden = g.cs.literal([g.same("hidden")])
    kept = g.task(lambda n, x: kept.tail(n - 1, x) if n else len(x), "kept")
    moved = g.task(lambda n, x, y=None: moved.tail(n - 1, y=x) if n else len(y or x), "moved")
    made = g.task(lambda n, x: made.tail(n - 1, [*x, n]) if n else x, "made", turns=0)
    return [kept(3, hidden), moved(3, hidden), made(3, hidden)]


@case("M2: containers of each kind in arguments of tail calls")
def _(g: Ground) -> Any:
    kinds = [
        lambda lazy: (lazy, 1),
        lambda lazy: {"k": [lazy]},
        lambda lazy: {lazy, 2},
        lambda lazy: DataPair(lazy, [lazy]),
        lambda lazy: deque([lazy]),
        lambda lazy: [1, 2, 3],
    ]

    def turning(turns: int | None) -> Any:
        def turn(n: int, x: Any = None, *, seen: Any = ()) -> Any:
            if n == len(kinds):
                return x, seen
            value = kinds[n](g.same(n))
            return g.cs.TailCall((n + 1,), {"x": value, "seen": (*seen, x)})

        return g.task(turn, f"turn{turns}", turns=turns)

    return [turning(turns)(0) for turns in (None, 0, 1)]


@case("M2: a lazy value in a container fails, and so does the node")
def _(g: Ground) -> Any:
    failing = g.fail(ValueError("in a container"))
    step = g.task(lambda n, x=None: step.tail(n - 1, [failing()]) if n else x, "step")
    return g.pair(step(2), 0)


@case("M2: a literal in a tail call is its value, also where that is a lazy one")
def _(g: Ground) -> Any:
    def step(n: int, value: Any = None) -> Any:
        return (
            g.cs.TailCall((n - 1,), {"value": g.cs.literal(g.same("shielded"))}) if n else [value]
        )

    return g.cs.gather(g.task(step, "step")(1), g.task(step, "astep", turns=0)(2))


@case("M2: a node that was given a lazy value as a literal makes a tail call")
def _(g: Ground) -> Any:
    step = g.task(lambda n, x: g.cs.TailCall((n - 1,)) if n else [x], "step")
    astep = g.task(lambda n, x: g.cs.TailCall((n - 1,)) if n else [x], "astep", turns=1)
    hidden = g.cs.literal(g.same("hidden"))
    return g.pair(step(1, hidden), g.pair(astep(1, hidden), 0))


@case("M2: a skipped lazy argument of a tail call skips the node")
def _(g: Ground) -> Any:
    skipped = g.same("skipped").run_if(g.no())
    step = g.task(lambda n: g.cs.TailCall((skipped,)), "step")
    return g.same("after all").after(g.pair(step(1), 0), g.asame().after(step(2)))


@case("M2: a lazy argument of a tail call fails")
def _(g: Ground) -> Any:
    failing = g.fail(ValueError("in an argument"))
    return g.pair(g.task(lambda n: g.cs.TailCall((failing(),)), "step")(1), 0)


@case("M3: map items, inner nodes and returned nodes loop each alone")
def _(g: Ground) -> Any:
    down = g.task(lambda n, steps=0: down.tail(n - 1, steps + 1) if n else steps, "down")
    adown = g.task(
        lambda n, steps=0: g.cs.TailCall((n - 1, steps + 1)) if n else steps, "adown", turns=0
    )
    returns = g.task(lambda n: down(n), "returns")
    return [down.map(n=[3, 0, 2]), adown.map(n=[1, 2]), g.pair(down(2), adown(3)), returns(2)]


@case("M3: the lazy arguments of a looping root are computed once")
def _(g: Ground) -> Any:
    step = g.task(lambda n, x, y=0: g.cs.TailCall((n - 1,)) if n else (x, y), "step")
    return step(3, g.same("x"), y=[g.asame("y")])


@case("R5: mutual recursion by task, sync and async")
def _(g: Ground) -> Any:
    ping = g.task(lambda n, by="": pong.tail(n - 1, by="ping") if n else ("ping", by), "ping")
    pong = g.task(lambda n, by="": g.cs.TailCall((n - 1,), {"by": "pong"}, target=ping), "pong", 1)
    return g.pair(ping(4), pong(3))


@case("R5: a tail call to a task whose arguments are lazy")
def _(g: Ground) -> Any:
    return g.task(lambda: g.pair.tail(g.asame(1), b=g.same(2)), "start")()


@case("R5: a target that is the task itself is no switch")
def _(g: Ground) -> Any:
    step = g.task(lambda n, keep="default": step.tail(n - 1) if n else keep, "step")
    return step(2, keep="given")


@case("R5: mutual recursion by blueprint id; going on in the same one keeps values")
def _(g: Ground) -> Any:
    def one(n: int, keep: str = "one's") -> Any:
        return g.cs.TailCall((n - 1,), {"keep": "set"}, "two") if n else ("one", keep)

    def two(n: int, keep: str = "two's", times: int = 0) -> Any:
        if times < 2:
            return g.cs.TailCall(kwargs={"times": times + 1}, target_blueprint_id="two")
        return g.cs.TailCall(kwargs={"n": n - 1}, target_blueprint_id="one") if n else ("two", keep)

    ones, twos = g.task(one, "one"), g.task(two, "two", turns=0)
    g.blueprints |= {"one": ones(0), "two": twos(0)}
    return g.cs.gather(ones(3, keep="given"), twos(2), ones(0))


@case("R5: a blueprint id that nobody registered")
def _(g: Ground) -> Any:
    return g.pair(g.task(lambda: g.cs.TailCall(target_blueprint_id="nowhere"), "start")(), 0)


@case("M3: a blueprint's prologue computes the inputs that a tail call does not give")
def _(g: Ground) -> Any:
    inner = g.task(lambda n, x, y="default": (n, x, y), "inner")
    g.blueprints["inner"] = inner(0, g.same("prologue"))
    start = g.task(lambda n: g.cs.TailCall((n,), None, "inner"), "start")
    given = g.task(lambda n: g.cs.TailCall((n,), {"x": "given"}, "inner"), "given")
    return g.cs.gather(start(1), start(2), given(3))


@case("M3: what was plain in a compiled call is an input without a default")
def _(g: Ground) -> Any:
    inner = g.task(lambda n, x="default": (n, x), "inner")
    g.blueprints["inner"] = inner(0, "compiled")
    return g.task(lambda n: g.cs.TailCall((n,), None, "inner"), "start")(1)


@case("M1: a blueprint whose input is missing")
def _(g: Ground) -> Any:
    g.blueprints["pair"] = g.pair(0, 0)
    return g.task(lambda: g.cs.TailCall((1,), None, "pair"), "start")()


@case("M1: a blueprint that has no such input")
def _(g: Ground) -> Any:
    g.blueprints["pair"] = g.pair(0, 0)
    return g.task(lambda: g.cs.TailCall((1, 2), {"c": 3}, "pair"), "start")()


# -- R6, M16: conditions, order, skipping -----------------------------------------------------


@case("R6: a skipped target is an error that names the condition")
def _(g: Ground) -> Any:
    return g.same(1).run_if(g.no())


@case("R6: what depends on a skipped value is skipped, through containers and surplus arguments")
def _(g: Ground) -> Any:
    skipped = g.same(1).run_if(g.no())
    f = g.task(lambda *args, **kwargs: (args, kwargs), "all")
    users = [f(0, skipped), f(x=skipped), f([skipped]), g.cs.gather(skipped), f(*[0, {1: skipped}])]
    return g.same("end").after(*users)


@case("R6: a root whose surplus arguments are skipped")
def _(g: Ground) -> Any:
    skipped = g.same(1).run_if(g.no())
    return g.task(lambda *args, **kwargs: args, "all")(1, skipped, x=[skipped])


@case("M16: the inputs of a skipped node run, sync and async")
def _(g: Ground) -> Any:
    skipped = g.pair(g.asame("runs"), [g.same("runs too")]).run_if(g.asame(0))
    return g.same("end").after(skipped)


@case("M16: a skipped condition skips, a skipped predecessor does not")
def _(g: Ground) -> Any:
    skipped = g.yes().run_if(g.no())
    return g.cs.gather(g.same(1).after(skipped), g.same("end").after(g.same(2).run_if(skipped)))


@case("R6: two conditions must both hold; both are computed")
def _(g: Ground) -> Any:
    both = g.same("both").run_if(g.yes()).run_if(g.asame([1]))
    one = g.same("one").run_if(g.no()).run_if(g.yes())
    return g.pair(both, g.same("end").after(one))


@case("R10: conditions are asked once for a node that loops")
def _(g: Ground) -> Any:
    step = g.task(lambda n: g.cs.TailCall((n - 1,)) if n else "end", "step")
    return g.pair(step(2).run_if(g.yes()), step(1).after(g.no()))


@case("R6: a condition may be younger than what it decides on")
def _(g: Ground) -> Any:
    first = g.same("first")
    first.run_if(g.yes(g.asame())).after(g.same("younger"))
    return g.pair(first, 0)


@case("M16: a condition that fails fails the run")
def _(g: Ground) -> Any:
    return g.same("end").after(g.same(1).run_if(g.fail(KeyError("condition"), turns=1)()))


@case("R6: a task returns a node that is skipped")
def _(g: Ground) -> Any:
    give = g.task(lambda: g.same(1).run_if(g.no()), "give")
    return g.pair(g.same("end").after(give()), give())


# -- R7: routers ------------------------------------------------------------------------------


@case("R7, M16: what only other routes use does not run")
def _(g: Ground) -> Any:
    shared, only = g.same("shared"), g.same("only the other")
    routes = {"a": g.pair(shared, 1), "b": g.pair(shared, only), "c": g.fail(ValueError("no"))()}
    return g.pair(g.cs.Router(selector=g.asame("a"), routes=routes), 0)


@case("R7: routes that are plain, containers, and routers")
def _(g: Ground) -> Any:
    inner = g.cs.Router(selector="x", routes={"x": [g.same(1), (2,)], "y": 0})
    outer = g.cs.Router(selector=g.same(1), routes={0: g.same(0), 1: inner})
    return g.pair(outer, g.cs.Router(selector=g.same(2), routes={2: "plain"}))


@case("R7: no route for the key, or one that cannot be a key")
def _(g: Ground) -> Any:
    routes = {1: g.same(1)}
    none = g.cs.Router(selector=g.same(2), routes=routes)
    return g.pair(none, g.cs.Router(selector=g.same([1]), routes=routes))


@case("R7, R6: a skipped selector skips, a skipped route too")
def _(g: Ground) -> Any:
    skipped = g.same(1).run_if(g.no())
    by_selector = g.cs.Router(selector=skipped, routes={1: g.same("not run")})
    by_route = g.cs.Router(selector=1, routes={1: skipped, 2: g.same("not run")})
    return g.same("end").after(by_selector, by_route)


@case("R7, M14: two routers choose the same lazy value")
def _(g: Ground) -> Any:
    route = g.same("once")
    routers = [g.cs.Router(selector=g.same(n), routes={1: route, 2: route}) for n in (1, 2)]
    return g.cs.gather(*routers, route)


# -- R8, M17: maps ----------------------------------------------------------------------------


@case("R8: maps over lists that only the run knows, nested")
def _(g: Ground) -> Any:
    numbers = g.task(lambda n: list(range(n)), "numbers")
    row = g.task(lambda n: g.pair.map(a=numbers(n), b=numbers(n)), "row")
    return row.map(n=numbers(4))


@case("M29: the values of a map with a window are those of one without")
def _(g: Ground) -> Any:
    return [task.map(value=range(9), window=3) for task in (g.same, g.asame)]


@case("M29: a window reads iterators, also those that tasks return, and lazy items")
def _(g: Ground) -> Any:
    lazily = g.task(lambda: iter([1, 2, 3]), "lazily")
    return g.pair(g.asame.map(value=lazily(), window=2), g.same.map(value=[g.same(1), 2], window=1))


@case("M29: a fold takes the values in the order of the items, whichever is there first")
def _(g: Ground) -> Any:
    late = g.task(lambda n: n, "late", turns=3)
    item = g.task(lambda n: late(n) if n % 3 == 0 else n, "item")
    join = g.task(lambda so_far, value: [*so_far, value], "join")
    folds = (join, lambda so_far, value: [*so_far, value])
    return [item.map(n=range(9), window=4, fold=fold, initial=[]) for fold in folds]


@case("M29: a fold begins with its first value, or with a lazy one")
def _(g: Ground) -> Any:
    add = g.task(lambda so_far, value: so_far + value, "add", turns=1)
    return [
        g.asame.map(value=[1, 2, 3], fold=add),
        g.same.map(value=[1, 2, 3], fold=add, initial=g.same(10)),
        g.same.map(value=[7], fold=add),
        g.same.map(value=[], fold=add, initial=0),
    ]


@case("M29: a fold without items and without a value to begin with is an error")
def _(g: Ground) -> Any:
    return g.same(g.same.map(value=[], fold=lambda so_far, value: so_far))


@case("M29: the options of a map are for its items, with a window too")
def _(g: Ground) -> Any:
    divide = g.task(lambda n: 1 // n, "divide")
    return [
        g.flaky(lambda n: n, 1).map(n=[2, 1], window=2).with_retry(2),
        g.same.map(value=[1, 2], window=2, skipped="none"),
        divide.map(n=[1, 0, 1], window=1, catch=(ZeroDivisionError, "zero")),
        divide.map(n=[1, 0, 1], window=2, return_exceptions=True),
    ]


@case("M29: maps with windows in items of maps with windows")
def _(g: Ground) -> Any:
    row = g.task(lambda n: g.asame.map(value=range(n), window=2), "row")
    return row.map(n=range(4), window=2)


@case("M29, M14: a task that is a fold may return what its code mentions")
def _(g: Ground) -> Any:
    shared = g.same("shared")
    pick = g.task(lambda so_far, value: shared if value else so_far, "pick")
    return g.pair(g.same.map(value=[0, 1, 1], window=2, fold=pick, initial="none"), shared)


@case("R8: empty maps, of plain and of lazy lists")
def _(g: Ground) -> Any:
    return g.pair(g.same.map(value=[]), g.pair.map(a=g.same([]), b=()))


@case("M17: lists of unequal length are an error, known at the run")
def _(g: Ground) -> Any:
    return g.pair.map(a=g.same([1, 2]), b=[1, 2, 3])


@case("M17: lists of unequal length are an error, known at the call")
def _(g: Ground) -> Any:
    return g.pair.map(a=[1, 2], b=[1, 2, 3])


@case("M17: a string is refused, at the run")
def _(g: Ground) -> Any:
    return g.pair(g.same.map(value=g.asame("abc")), 0)


@case("M17: a number is refused")
def _(g: Ground) -> Any:
    return g.task(lambda: g.same.map(value=7), "start")()


@case("M17: a literal is the same for every item")
def _(g: Ground) -> Any:
    return g.pair.map(a=[g.same(1), 2], b=g.cs.literal([g.same("shielded")]))


@case("R8, R6: a skipped item skips the list, a skipped list the map")
def _(g: Ground) -> Any:
    skipped = g.same([1]).run_if(g.no())
    return g.same("end").after(g.same.map(value=[1, skipped]), g.same.map(value=skipped))


@case("R8: items of a map tail-call another task and return lazy values")
def _(g: Ground) -> Any:
    item = g.task(lambda n: g.pair.tail(n, b=g.same(n)) if n % 2 else g.pair(n, g.asame(n)), "item")
    return item.map(n=range(4))


# -- R9, M13: errors --------------------------------------------------------------------------


@case("M13: two failures, sync and async, and work that depends on neither")
def _(g: Ground) -> Any:
    one, two = g.fail(ValueError("one")), g.fail(KeyError("two"), turns=1)
    return [g.pair(one(), g.same(1)), two(g.same(2)), g.asame(g.asame(3))]


@case("M13: StopIteration from a task is a RuntimeError")
def _(g: Ground) -> Any:
    return g.pair(g.fail(StopIteration(1))(), 0)


@case("M13: StopIteration from a coroutine function is a RuntimeError, too")
def _(g: Ground) -> Any:
    return g.pair(g.fail(StopIteration(1), turns=0)(), 0)


@case("M13: StopIteration from an item of a map and in a loop")
def _(g: Ground) -> Any:
    step = g.task(lambda n: g.cs.TailCall((n - 1,)) if n else next(iter(())), "step")
    return step.map(n=[2])


@case("R9: one exception raised by several tasks")
def _(g: Ground) -> Any:
    failing = g.fail(ValueError("the same"))
    return [failing(1), failing(2), g.task(lambda: failing(3), "give")()]


@case("R9: an error behind a lazy value that a tail call's argument returns")
def _(g: Ground) -> Any:
    deep = g.task(lambda n: deep(n - 1) if n else g.fail(OSError("deep"))(), "deep")
    return g.task(lambda n: g.cs.TailCall((deep(n),)), "step")(2)


def _far(g: Ground) -> tuple[Any, Any]:
    """A task that tail-calls one with a failing argument, and one that returns a call of it."""
    failing = g.fail(OSError("far"))
    two = g.task(lambda n: g.cs.TailCall((failing(),)), "two")
    one = g.task(lambda n: two.tail(n), "one")
    return one, g.task(lambda n: one(n), "returns")


@case("R9: on the way to an error a root goes by its own name, not by what it tail-called")
def _(g: Ground) -> Any:
    return _far(g)[0](1)


@case("R9: and so does an inner node")
def _(g: Ground) -> Any:
    return g.pair(_far(g)[0](1), 0)


@case("R9: and one that a root returned")
def _(g: Ground) -> Any:
    return _far(g)[1](1)


@case("R9: and one that an inner node returned")
def _(g: Ground) -> Any:
    return g.pair(_far(g)[1](1), 0)


@case("R9: and one that was returned with inputs, and returned another")
def _(g: Ground) -> Any:
    _, returns = _far(g)
    return g.pair(g.task(lambda: returns(g.asame(1)), "outer", turns=1)(), 0)


@case("R9: of several that use what failed, the one that was made first is on the way")
def _(g: Ground) -> Any:
    bad = g.fail(ValueError("bad"))()
    first = g.pair(1, bad)
    return g.pair(bad, first.run_if(g.yes(2).after(bad)))


@case("R9: exception groups and errors with a cause come through")
def _(g: Ground) -> Any:
    return g.asame(g.fail(ExceptionGroup("several", [ValueError(1), KeyError(2)]), turns=1)())


# -- R10: attempts ----------------------------------------------------------------------------


@case("R10: a call that fails is made again, sync and async, root and inner")
def _(g: Ground) -> Any:
    work, awork = g.flaky(lambda n: n, 2), g.flaky(lambda n: n, 2, turns=1)
    return g.cs.gather(work(1).with_retry(3), g.same(awork(2).with_retry(4)), work(3).with_retry(9))


@case("R10: the error is that of the last attempt")
def _(g: Ground) -> Any:
    return g.pair(g.flaky(lambda n: n, 5)(1).with_retry(3), g.same("beside"))


@case("R10: every step of a loop has its attempts, also after a switch of tasks")
def _(g: Ground) -> Any:
    ping = g.flaky(lambda n: pong.tail(n - 1) if n else "ping", 1)
    pong = g.flaky(lambda n: g.cs.TailCall((n - 1,), target=ping) if n else "pong", 2, turns=0)
    g.blueprints["pong"] = pong(0)
    by_id = g.flaky(lambda n: g.cs.TailCall((n,), None, "pong"), 1)
    return g.cs.gather(ping(3).with_retry(3), by_id(7).with_retry(3))


@case("R10: a step that used up its attempts fails the node")
def _(g: Ground) -> Any:
    step = g.task(lambda n: g.cs.TailCall((n - 1,)) if n else 1 / 0, "step")
    return g.pair(step(2).with_retry(2), g.same(1))


@case("R10: returning a lazy value or a tail call is a success, whatever follows")
def _(g: Ground) -> Any:
    returns = g.task(lambda: g.fail(ValueError("returned"))(), "returns", turns=0)
    misfit = g.task(lambda: g.cs.TailCall(kwargs={"nobody": 1}), "misfit")
    asks = g.task(lambda n: g.cs.TailCall((g.fail(KeyError("asked"))(),)), "asks")
    return [returns().with_retry(3), misfit().with_retry(3), asks(1).with_retry(3)]


@case("R10: a returned lazy value has its own attempts")
def _(g: Ground) -> Any:
    work = g.flaky(lambda n: n, 1)
    return g.pair(g.task(lambda: work(1).with_retry(2), "outer")().with_retry(9), 0)


@case("R10, M13: a StopIteration is an error like any other, and tried again")
def _(g: Ground) -> Any:
    answers = [iter([1]), iter(())]
    return g.task(lambda: next(answers.pop()), "work")().with_retry(2)


@case("R10, R8: items of a map are tried again each for itself")
def _(g: Ground) -> Any:
    return g.flaky(lambda n: g.same(n), 1).map(n=[1, 2, 3]).with_retry(2)


@case("R10: conditions are asked once for all attempts")
def _(g: Ground) -> Any:
    return g.pair(g.flaky(lambda n: n, 2)(1).run_if(g.yes()).with_retry(3), 0)


@case("R10: a function computes the delays, or ends the attempts")
def _(g: Ground) -> Any:
    soon = g.flaky(lambda n: n, 3)(1).with_retry(5, delay=lambda error, attempt: 0.0)
    later = g.flaky(lambda n: n, 1, turns=1).map(n=[1, 2])
    later.with_retry(2, delay=lambda error, attempt: 0 if "1 of" in str(error) else None)
    return g.pair(soon, later)


@case("R10: without another attempt the node has failed with the error")
def _(g: Ground) -> Any:
    work = g.flaky(lambda n: n, 3)
    stop = lambda error, attempt: 0 if attempt < 2 else None  # noqa: E731
    return g.pair(work(1).with_retry(9, delay=stop), g.same("beside"))


@case("R10: a function for the delays that raises fails the node with its error")
def _(g: Ground) -> Any:
    broken = lambda error, attempt: 1 / 0  # noqa: E731
    return g.pair(g.flaky(lambda n: n, 1, turns=0)(1).with_retry(9, delay=broken), 0)


@case("R10: a function for the delays that returns no seconds fails the node, also in a loop")
def _(g: Ground) -> Any:
    step = g.flaky(lambda n: g.cs.TailCall((n - 1,)) if n else n, 1)
    return g.pair(step(1).with_retry(2, delay=lambda error, attempt: -1.0), g.same(0))


@case("M23: an iterator among the arguments of a call with a retry")
def _(g: Ground) -> Any:
    return g.pair(g.same({"a": [Reader()]}).with_retry(2), g.same(1))


@case("M23: an iterator beside a lazy value, in the body of a task")
def _(g: Ground) -> Any:
    return g.task(lambda: g.same((g.same(1), [Reader()])).with_retry(2), "outer")()


@case("M23: an iterator that a call with a retry gets from another one, sync and async")
def _(g: Ground) -> Any:
    read = g.task(lambda: [DataPair(1, Reader())], "read")
    calls = [g.same([read()]).with_retry(2), g.asame(read()).with_retry(1), g.same(read())]
    return g.cs.gather(*calls)


@case("M23: an iterator among the items of a map, known before the run and not")
def _(g: Ground) -> Any:
    read = g.task(lambda n: Reader() if n else 0, "read")
    late = g.task(lambda: [Reader(), 1], "late")()
    known = g.same.map(value=[read(0), read(1)], return_exceptions=True).with_retry(2)
    return g.pair(known, g.same.map(value=late, return_exceptions=True).with_retry(3))


@case("M23: a literal hands over an iterator nevertheless, and a loop keeps it")
def _(g: Ground) -> Any:
    more = lambda n, given: g.cs.TailCall(kwargs={"n": n - 1}) if n else [given]  # noqa: E731
    step = g.task(more, "step")
    again = g.task(lambda n, given: step.tail(n, given), "again", turns=0)
    shielded = g.cs.literal(Reader())
    handed = g.task(lambda n, given=None: step.tail(n, shielded), "handed")
    return [lazy.with_retry(2) for lazy in (step(2, shielded), again(1, shielded), handed(1))]


@case("M23: an iterator in a tail call of a node with a retry")
def _(g: Ground) -> Any:
    step = g.task(lambda n, given=None: g.cs.TailCall((n - 1, [Reader()])) if n else n, "step")
    return [step(0).with_retry(2), g.pair(step(1).with_retry(2), 0)]


@case("M23: an iterator that a tail call of a node with a retry has to wait for")
def _(g: Ground) -> Any:
    read = g.task(lambda: Reader(), "read")
    again = lambda n, given=None: g.cs.TailCall((n - 1,), {"given": [read()]}) if n else n  # noqa: E731
    return [g.task(again, "step")(1).with_retry(2), g.task(again, "astep", turns=1)(1)]


@case("M23, R10: the cache is asked before")
def _(g: Ground) -> Any:
    reader = Reader()
    read = g.task(lambda: reader, "read")()
    first = g.same(read).with_cache(g.cache)
    second = g.same(read).with_cache(g.cache).with_retry(2).after(first)
    return g.cs.gather(first, second)


@case("M7, R10: each attempt has its task-scoped resources")
def _(g: Ground) -> Any:
    each = g.cs.inject(g.resource("each", scope="task"))
    left = [1, 2]

    def use(n: int, thing: Any = each) -> Any:
        if left:
            raise OSError(left.pop())
        return g.cs.TailCall((n - 1,)) if n else thing

    return g.task(use, "use")(2).with_retry(3)


@case("M1: lazy defaults are arguments, of calls, items and tail calls")
def _(g: Ground) -> Any:
    late = g.asame("late")
    box = [late, 2]
    work = g.task(lambda a, late=late, *, box=box: [a, late, box], "work", turns=1)
    switch = g.task(lambda n: work.tail(n, box=3), "switch")
    loop = g.task(lambda n, late=late: g.cs.TailCall((n - 1,)) if n else late, "loop")
    calls = [work(1), work(2, "mine"), work(3, box=g.same(4)), switch(5), loop(3)]
    return g.cs.gather(*calls, work.map(a=[6, 7]), switch.map(n=[8]))


@case("M1, R6: a lazy default that was skipped skips the call, and what follows a tail call")
def _(g: Ground) -> Any:
    late = g.same("late").run_if(g.no())
    work = g.task(lambda a, late=late: [a, late], "work")
    switch = g.task(lambda n: work.tail(n), "switch")
    return g.same("end").after(work(1), switch(2))


@case("M1: a lazy default that fails fails the call")
def _(g: Ground) -> Any:
    late = g.fail(ValueError("no"))()
    work = g.task(lambda a, late=late: [a, late], "work")
    return g.task(lambda n: work.tail(n), "switch", turns=0)(2)


@case("R10: a task declares policies for its calls, which say otherwise where they do")
def _(g: Ground) -> Any:
    left = [1, 2]

    def fails_twice(n: Any) -> Any:
        if left:
            raise OSError(left.pop())
        return n

    tried = g.task(fails_twice, "tried", retry=3)
    kept = g.task(lambda n: [n], "kept", cache=g.cache, turns=1)
    takes = g.task(lambda n: n, "takes", capacities={"gpu": 2})
    calls = [kept(1), kept(1), kept(n=1), takes(1), takes(2).with_capacity(gpu=g.same(1))]
    return g.cs.gather(tried(1), *calls, kept(5).with_cache(None).after(kept(5)))


@case("R10: a call may switch a declared retry off")
def _(g: Ground) -> Any:
    def fails(n: Any) -> Any:
        raise OSError(n)

    return g.task(fails, "fails", retry=3)(1).with_retry(1)


@case("R10: items of maps have what their task declares, unless the map says otherwise")
def _(g: Ground) -> Any:
    seen: list[Any] = []

    def work(n: Any) -> Any:
        seen.append(n)
        if seen.count(n) < 2:
            raise OSError(n)
        return n

    tried = g.task(work, "tried", retry=2, capacities={"disk": 0.5})
    items = tried.map(n=[1, 2, 3])
    return g.pair(items, tried.map(n=[4, 5], return_exceptions=True).with_retry(1).after(items))


@case("R10: a tail call keeps the policies of its node, whatever its target declares")
def _(g: Ground) -> Any:
    left = [1]

    def fails_once(n: Any) -> Any:
        if left:
            raise OSError(left.pop())
        return n

    target = g.task(fails_once, "target")
    once = g.task(lambda n: n, "once", retry=3)
    first = g.task(lambda n: target.tail(n), "first", retry=2)
    return g.pair(first(1), g.task(lambda n: once.tail(n), "second")(2))


@case("R10: a target's declared retry does not count after a tail call")
def _(g: Ground) -> Any:
    def fails(n: Any) -> Any:
        raise OSError(n)

    target = g.task(fails, "target", retry=3)
    return g.task(lambda n: target.tail(n), "first", turns=0)(1)


@case("R10: a returned call has what its own task declares")
def _(g: Ground) -> Any:
    left = [1]

    def fails_once(n: Any) -> Any:
        if left:
            raise OSError(left.pop())
        return n

    target = g.task(fails_once, "target", retry=2, turns=1)
    return g.task(lambda n: target(n), "first")(1)


# -- R10: caches ------------------------------------------------------------------------------


@case("R10: equal calls are made once, also with equal arguments that come by other ways")
def _(g: Ground) -> Any:
    work = g.task(lambda n, m=0, *rest, **more: [n, m], "work", turns=1)
    calls = [work(1), work(n=1), work(g.asame(1), 0), work(g.same(1), m=0), work(1, 1), work(True)]
    return [call.with_cache(g.cache) for call in calls]


@case("R10: None is a value, and kept")
def _(g: Ground) -> Any:
    first = g.same(None).with_cache(g.cache)
    return g.pair(first, g.same().with_cache(g.cache).after(first))


@case("R10: a cache is for first arguments and final values")
def _(g: Ground) -> Any:
    down = g.task(lambda n, acc=0: g.cs.TailCall((n - 1, acc + n)) if n else acc, "down")
    returns = g.task(lambda n: g.pair(g.asame(n), [g.same(n)]), "returns", turns=0)
    calls = [down(3), down(1, 5), down(3), returns(1), returns(1)]
    first = g.cs.gather(*[call.with_cache(g.cache) for call in calls])
    again = [down(3), down(1, 5), returns(1)]
    return g.pair(first, g.cs.gather(*[call.with_cache(g.cache).after(first) for call in again]))


@case("R10: cached nodes that continue as cached nodes")
def _(g: Ground) -> Any:
    three = g.task(lambda n: g.same([n, g.asame(n)]), "three")
    two = g.task(lambda n: three(g.same(n)).with_cache(g.cache), "two", turns=0)
    one = g.task(lambda: two(2).with_cache(g.cache), "one")
    first = g.same(one().with_cache(g.cache))
    again = [one(), two(2), three(2)]
    return g.pair(first, [call.with_cache(g.cache).after(first) for call in again])


@case("R10: a skipped node is not looked for, and a skip is not kept")
def _(g: Ground) -> Any:
    first = g.same(1).with_cache(g.cache).run_if(g.no())
    second = g.same(1).with_cache(g.cache).after(first)
    returns = g.task(lambda n: g.same(n).run_if(g.same(n)), "returns")
    return g.pair(second, g.same("end").after(returns(0).with_cache(g.cache)))


@case("R10: a failure is not kept, and an attempt no call of its own")
def _(g: Ground) -> Any:
    work = g.flaky(lambda n: n, 1)
    failing = work.map(n=[1], return_exceptions=True).with_cache(g.cache)
    again = work(1).with_cache(g.cache).after(failing)
    tried = g.flaky(lambda n: n, 2, turns=1).map(n=[5, 5, 5]).with_cache(g.cache).with_retry(3)
    return g.cs.gather(failing, again, tried)


@case("R10: an equal call inside of itself waits for itself")
def _(g: Ground) -> Any:
    work = g.task(lambda n: g.same([work(n).with_cache(g.cache)]), "work")
    return work(1).with_cache(g.cache)


@case("R10, M14: cached nodes that are met again, and that return what is known")
def _(g: Ground) -> Any:
    known = g.asame("known")
    work = g.task(lambda: known, "work")
    hidden = g.asame("hidden").with_cache(g.cache)
    mention = g.task(lambda: hidden, "mention")
    cached = [work().with_cache(g.cache), work().with_cache(g.cache)]
    return g.cs.gather(known, cached, mention(), g.same(hidden), mention())


# -- errors as values -------------------------------------------------------------------------


@case("R8: an item's error becomes its value, in its place")
def _(g: Ground) -> Any:
    work = g.task(lambda n: 6 // n, "work")
    awork = g.task(lambda n: 6 // n, "awork", turns=1)
    maps = [f.map(n=[2, 0, 3], return_exceptions=True) for f in (work, awork)]
    return g.pair(*maps)


@case("R8, R10: an item's error is that of its last attempt")
def _(g: Ground) -> Any:
    work = g.flaky(lambda n: n, 2)
    return [
        work.map(n=["a"], return_exceptions=True).with_retry(2),
        work.map(n=["b"], return_exceptions=True).with_retry(3),
    ]


@case("R8: an item fails by what it continues as")
def _(g: Ground) -> Any:
    fail, skipped = g.fail(ValueError("bad"), turns=0), g.same(1).run_if(g.no())
    ways: list[Callable[[], Any]] = [
        lambda: fail(),
        lambda: g.pair(g.asame(1), [g.same(fail(2))]),
        lambda: fail.tail(3),
        lambda: g.cs.TailCall((g.asame(fail(4)),)),
        lambda: g.same(1).run_if(fail(5)),
        lambda: g.same(1).after(fail(6)),
        lambda: g.pair(skipped, fail(7)),
        lambda: g.pair(fail(8), skipped).run_if(g.no()),
        lambda: g.cs.TailCall(kwargs={"nobody": 1}),
        lambda: g.same("fine"),
    ]
    item = g.task(lambda n: ways[n](), "item")
    return g.same(item.map(n=range(len(ways)), return_exceptions=True))


@case("R8: maps in maps catch each for themselves")
def _(g: Ground) -> Any:
    work = g.task(lambda n: 6 // n, "work", turns=0)
    row = g.task(lambda ns: work.map(n=ns, return_exceptions=len(ns) > 1), "row")
    return row.map(ns=[[1, 0], [0], [3]], return_exceptions=True)


@case("R9: an error that is not caught on all ways ends the run, whichever comes first")
def _(g: Ground) -> Any:
    shared = g.fail(ValueError("shared"))()
    item = g.task(lambda n: shared, "item")
    caught = item.map(n=[1], return_exceptions=True)
    late = g.task(lambda *given: g.same(shared), "late", turns=3)
    return g.pair(caught, late().after(caught))


@case("R8: an error that several items need is caught by each")
def _(g: Ground) -> Any:
    shared = g.fail(ValueError("shared"), turns=1)()
    item = g.task(lambda n: [shared, g.asame(shared), g.pair(n, [shared])][n], "item")
    return item.map(n=[0, 1, 2], return_exceptions=True)


@case("R8, M16: an item that is skipped has no value, and no error")
def _(g: Ground) -> Any:
    item = g.task(lambda n: g.same(n).run_if(g.same(n)), "item")
    return g.same("end").after(item.map(n=[1, 0], return_exceptions=True))


@case("R8: an error in the list that is gone over is the map's")
def _(g: Ground) -> Any:
    return g.same.map(value=[1, g.fail(ValueError("bad"))()], return_exceptions=True)


@case("R8, R4: a cycle is no item's value")
def _(g: Ground) -> Any:
    lazies: list[Any] = []
    item = g.task(lambda n: lazies[0], "item")
    lazies.append(g.same(item.map(n=[1], return_exceptions=True)))
    return lazies[0]


@case("R8, R10: equal items that fail, with others that do not catch")
def _(g: Ground) -> Any:
    work = g.task(lambda n: 6 // n, "work", turns=2)
    caught = work.map(n=[0, 0, 1], return_exceptions=True).with_cache(g.cache)
    return g.pair(caught, g.same(work(0).with_cache(g.cache)))


# -- several values, and modes ----------------------------------------------------------------


@case("R2: the values of a task with nout are lazy values each, of one call")
def _(g: Ground) -> Any:
    split = g.task(lambda n: (n, [n, n]), "split", nout=2)
    asplit = g.task(lambda n: {n: 1, g: 2}.keys() if n == "keys" else "ab", "asplit", 1, nout=2)
    a, b = split(g.asame(1))
    (_, c), (d, _) = split(b), asplit("text")
    return g.cs.gather(b, [a, g.same(a)], c, d)


@case("R2, R4: it is the final value that is unpacked, with the policies of the node")
def _(g: Ground) -> Any:
    step = g.task(lambda n: g.cs.TailCall((n - 1,)) if n else g.pair(n, g.same(2)), "step", nout=2)
    a, b = step(2).with_cache(g.cache)
    c, _ = step(2).with_cache(g.cache).after(a)
    return [b, a, c]


@case("R9: another number of values, or none")
def _(g: Ground) -> Any:
    few, none = g.task(lambda: [1], "few", nout=2), g.task(lambda: None, "none", nout=1)
    a, b = few()
    (c,) = none()
    return [a, g.pair(b, 1), c, g.same("beside")]


@case("R6: the values of a node that is skipped are skipped")
def _(g: Ground) -> Any:
    a, b = g.task(lambda: (1, 2), "two", nout=2)().run_if(g.no())
    return g.same("end").after(a, g.same(b))


@case("M6: blocking and inline tasks in loops, in maps, with resources and attempts")
def _(g: Ground) -> Any:
    each = g.cs.inject(g.resource("each", scope="task"))

    def work(n: int, thing: Any = each) -> Any:
        return g.cs.TailCall((n - 1,)) if n else g.same(thing)

    modes = ["blocking", "inline", "auto"]
    tasks = [g.task(work, mode, mode=mode) for mode in modes]
    failing = [g.task(lambda n: 6 // n, mode, mode=mode) for mode in modes]
    maps = [f.map(n=[0, 2], return_exceptions=True).with_retry(2) for f in failing]
    return [[f(2), f.map(n=[1, 0])] for f in tasks] + maps


# -- cycles -----------------------------------------------------------------------------------


@case("R4: a task returns what waits for it")
def _(g: Ground) -> Any:
    inner = g.task(lambda: users[0], "inner")
    users = [g.pair(inner(), 0)]
    return users[0]


@case("R4: a task returns itself")
def _(g: Ground) -> Any:
    lazies: list[Any] = []
    lazies.append(g.task(lambda: lazies[0], "itself")())
    return g.pair(lazies[0], g.same(1))


@case("R4: two coroutine tasks return each other")
def _(g: Ground) -> Any:
    lazies: list[Any] = []
    lazies.append(g.task(lambda: lazies[1], "one", turns=1)())
    lazies.append(g.task(lambda: lazies[0], "two", turns=3)())
    return g.pair(*lazies)


@case("M2: a tail call waits for its own node")
def _(g: Ground) -> Any:
    lazies: list[Any] = []
    lazies.append(g.task(lambda n: g.cs.TailCall((g.same(lazies[0]),)), "step", turns=0)(1))
    return g.pair(lazies[0], 0)


@case("R6: order and conditions that go round are refused before anything runs")
def _(g: Ground) -> Any:
    first = g.same("first")
    return first.after(g.same(g.same(first)))


@case("R7: a route that waits for its router")
def _(g: Ground) -> Any:
    routers: list[Any] = []
    routes = {1: g.task(lambda: g.same(routers[0]), "round")(), 2: 0}
    routers.append(g.cs.Router(selector=g.asame(1), routes=routes))
    return routers[0]


# -- parameters and resources -----------------------------------------------------------------


@case("R1: parameters and environment variables are values like any other")
def _(g: Ground) -> Any:
    limit = g.cs.Param("limit", type=int)
    values = [
        limit,
        g.cs.Param("name"),
        g.cs.Param("other", default=7),
        g.cs.Env("CASCADE_TEST_REGION"),
    ]
    return g.pair(values, [limit, g.cs.Env("CASCADE_TEST_NOWHERE", default="default")])


@case("R1: a parameter that is missing")
def _(g: Ground) -> Any:
    return g.pair(g.cs.Param("nobody"), g.same(1))


@case("R1: a parameter that is missing, met during the run")
def _(g: Ground) -> Any:
    return g.task(lambda: g.pair(g.cs.Param("nobody"), g.same(1)), "start")()


@case("R9: resources are opened at first use, once, and closed in reverse")
def _(g: Ground) -> Any:
    base = g.resource("base")
    user = g.resource("user", needs=g.cs.inject(base))
    g.resource("nobody's")
    injected = g.cs.inject(user)
    use = g.task(lambda n, thing=injected: (n, thing), "use")
    return g.pair(use(1), use.map(n=[2, 3]))


@case("R9: a task-scoped resource is one instance for each call of a loop")
def _(g: Ground) -> Any:
    each = g.cs.inject(g.resource("each", scope="task"))
    step = g.task(lambda n, thing=each: g.cs.TailCall((n - 1,)) if n else thing, "step")
    return g.pair(step(2), g.task(lambda thing=each: thing, "other", turns=1)())


@case("R9: a resource may be injected by an argument, also of a tail call")
def _(g: Ground) -> Any:
    thing = g.cs.inject(g.resource("thing"))
    return g.pair(g.same(thing), g.task(lambda: g.pair.tail(1, b=thing), "start")())


@case("R9: a registered resource by its name, also for a task that a tail call switches to")
def _(g: Ground) -> Any:
    g.resources.append(g.resource("thing"))
    by_name = g.cs.inject("thing")
    use = g.task(lambda n=0, thing=by_name: (n, thing), "use")
    return g.pair(use(), g.task(lambda: use.tail(1), "start")())


@case("R9: a resource that nobody registered, met during the run")
def _(g: Ground) -> Any:
    nowhere = g.cs.inject("nowhere")
    use = g.task(lambda thing=nowhere: thing, "use")
    return g.pair(g.task(lambda: use(), "start")(), g.same(1))


@case("R9: resources are closed after a failure, sync and async")
def _(g: Ground) -> Any:
    run, each = g.cs.inject(g.resource("run")), g.cs.inject(g.resource("each", scope="task"))

    def broken(one: Any = run, two: Any = each) -> Any:
        raise ValueError("broken")

    return g.pair(g.task(broken, "broken")(), g.task(broken, "abroken", turns=2)())


@case("M7: a thread-bound resource and its users")
def _(g: Ground) -> Any:
    bound = g.cs.inject(g.resource("bound", thread_bound=True))
    use = g.task(lambda n, thing=bound: g.cs.TailCall((n - 1,)) if n else thing, "use")
    return g.pair(use.map(n=[0, 1, 2]), g.asame(use(1)))


@pytest.mark.parametrize("goes_on", [False, True], ids=["", "going on, watched"])
@pytest.mark.parametrize("meaning", CASES)
def test_the_program_gives_the_expected_outcome(
    meaning: str, goes_on: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("CASCADE_TEST_REGION", "eu")
    program = lambda cs: Ground(CASES[meaning], cs)  # noqa: E731
    check(program, meaning, fail_fast=not goes_on, watched=goes_on)
