"""Random programs: a description as plain data, and how to build it.

The description is what hypothesis draws, shrinks and prints. ``Build`` makes fresh tasks and lazy
values of it for every evaluation, from ``cascade`` or from the naive evaluator (``cs``).
"""

import asyncio
import functools
import itertools
import operator
import threading
import zlib
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, fields, is_dataclass
from types import ModuleType
from typing import Any, NamedTuple

from hypothesis import strategies as st
from tests.differential import naive

from cascade.spec.blueprint import Literal
from cascade.spec.errors import CascadeError
from cascade.spec.lazy_types import LazyResult

#: Values that tasks set, and the caller's: equal to a task's value, but not the same (M12).
tone: ContextVar[object] = ContextVar("tone")
CALLERS: list[object] = []
PARAMS = {"limit": 3, "name": "eu"}
CAPACITIES = {"gpu": 2, "disk": 1.5}
_LAZY = LazyResult, naive.Lazy
_LITERAL = Literal, naive.Literal


class Point(NamedTuple):
    x: Any
    y: Any


@dataclass(frozen=True)
class Pair:
    """A dataclass, which is searched for lazy values (M15)."""

    left: Any
    right: Any


class Reader:
    """An iterator, which no call with a retry takes (M23)."""

    def __iter__(self) -> "Reader":
        return self

    def __next__(self) -> Any:
        raise StopIteration

    def __repr__(self) -> str:
        return "reader"


# -- expressions: what stands in an argument, or in what a task returns -----------------------


@dataclass(frozen=True)
class Const:
    value: Any


@dataclass(frozen=True)
class Arg:
    """An argument of the task that has this expression in its body."""

    place: int


@dataclass(frozen=True)
class Ref:
    """A lazy value of ``Program.shared``."""

    place: int


@dataclass(frozen=True)
class Box:
    kind: type
    items: tuple[Any, ...]


@dataclass(frozen=True)
class Lit:
    inner: Any


@dataclass(frozen=True)
class Endless:
    """An iterator without an end, which no map goes over (M17)."""

    kind: Any


@dataclass(frozen=True)
class Source:
    name: str
    default: Any


@dataclass(frozen=True)
class Call:
    """A call of a task; ``cached``: whether its value is kept in the run's only cache.

    None: as the task declares.
    """

    task: Any
    args: tuple[Any, ...] = ()
    kwargs: tuple[tuple[str, Any], ...] = ()
    run_if: Any = None
    after: tuple[Any, ...] = ()
    cached: bool | None = None
    amounts: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Split:
    """The values of a call of a task with ``nout``, each by itself, the last one first."""

    call: Call
    kind: type


@dataclass(frozen=True)
class OrElse:
    """An expression, and another one for the case that it is skipped (M26)."""

    lazy: Any
    value: Any


@dataclass(frozen=True)
class Handler:
    """What stands in for errors: an expression, a task that gets the error, or the error (M27)."""

    errors: tuple[type[Exception], ...]
    value: Any = None
    task: Any = None
    is_given: bool = True


@dataclass(frozen=True)
class Catch:
    """An expression, and a handler for the case that it fails (M27)."""

    lazy: Any
    handler: Handler


@dataclass(frozen=True)
class Joins:
    """What stands in the list of a map, or of a gather, for items without a value.

    Attributes:
        catches: Their errors.
        skipped: The values of these expressions; of one, or there is none.
        handlers: One at most.
    """

    catches: bool = False
    skipped: tuple[Any, ...] = ()
    handlers: tuple[Handler, ...] = ()


@dataclass(frozen=True)
class Gather:
    items: tuple[Any, ...]
    joins: Joins = Joins()


@dataclass(frozen=True)
class Map:
    task: Any
    columns: tuple[tuple[str, Any], ...]
    cached: bool | None = None
    joins: Joins = Joins()
    amounts: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Route:
    selector: Any
    routes: tuple[tuple[Any, Any], ...]


@dataclass(frozen=True)
class Operator:
    """An operator of lazy values, of ``_OPERATORS``, on one operand or two."""

    symbol: str
    operands: tuple[Any, ...]


_OPERATORS: dict[str, Callable[..., Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "+": operator.add,
    "~": operator.invert,
    "divmod": divmod,
    "round": round,
}


# -- bodies: what a task does -----------------------------------------------------------------


@dataclass(frozen=True)
class Pack:
    """Return the arguments."""


@dataclass(frozen=True)
class Give:
    """Return the value of an expression: plain, or lazy to continue as (R4)."""

    value: Any


@dataclass(frozen=True)
class Cancel:
    """A cancel from inside, in one of the ways of ``_cancelled``; a plain function raises it."""

    way: str


@dataclass(frozen=True)
class Fail:
    error: type[Exception]
    text: str


@dataclass(frozen=True)
class Uncalled:
    """Return a task, or a method of one, without a call."""

    method: str | None


@dataclass(frozen=True)
class Tries:
    """The first calls with some arguments fail, ``failures`` of them; each node makes ``attempts``.

    A task may declare them; then its calls do not.

    A node makes more attempts than can fail, so it does not matter which of several with the same
    arguments meets the failures.
    """

    failures: int
    attempts: int
    declared: bool = False
    delay: Any = 0

    @property
    def options(self) -> dict[str, Any]:
        return {"retry": self.attempts} if self.declared else {}


def no_delay(_error: Exception, _attempt: int) -> float:
    return 0.0


@dataclass(frozen=True, eq=False)
class Job:
    """A task.

    Attributes:
        signature: Of one of the kinds in ``Build._shaped``.
        pauses: How often it gives way; None for a plain function.
        body: Its actions.
        mode: Where it is called, as a plain function.
        nout: How many values it says that it gives.
        tries: How often it fails and is tried, where it is.
        binds: Whether it calls a function that sets a context variable.
        takes: What each call takes of the capacities, as the task declares.
        cached: Whether it declares the run's only cache.
        priority: The priority of its calls.
    """

    signature: str
    pauses: int | None
    body: Any
    mode: str = "auto"
    nout: int | None = None
    tries: Tries | None = None
    binds: bool = False
    takes: tuple[tuple[str, float], ...] = ()
    cached: bool = False
    priority: int = 0

    @property
    def options(self) -> dict[str, Any]:
        declared = {} if self.tries is None else self.tries.options
        return {**declared, "capacities": dict(self.takes)} if self.takes else declared


@dataclass(frozen=True)
class Step:
    """One turn of a loop: in which style it goes on, to which task, with which value."""

    style: str
    to: int
    value: Any


@dataclass(frozen=True, eq=False)
class Loop:
    """Tasks that tail-call each other once per step; the last one does the body.

    ``late``: the default of a parameter is a lazy value.
    """

    pauses: tuple[int | None, ...]
    steps: tuple[Step, ...]
    body: Any
    tries: Tries | None = None
    binds: bool = False
    late: bool = False
    priority: int = 0


@dataclass(frozen=True)
class Program:
    """``shared`` may be used anywhere, also only by tasks that run; ``late`` are edges between
    them that are added when all are made, so that they may lead to younger ones."""

    shared: tuple[Any, ...]
    late: tuple[tuple[int, str, int], ...]
    target: Any


def jobs_of(part: Any) -> Iterator[Any]:
    """Every Job and Loop of a program."""
    if isinstance(part, (Job, Loop)):
        yield part
    if isinstance(part, tuple):
        inner: Any = part
    elif is_dataclass(part) and not isinstance(part, type):
        inner = [getattr(part, f.name) for f in fields(part)]
    else:
        return
    for item in inner:
        yield from jobs_of(item)


# -- values -----------------------------------------------------------------------------------


def canon(value: Any) -> str:
    """A value with the types of all its parts, as text; sets and dicts in one order.

    Of two dicts that differ in their order alone, a cache gives one for the other. Cascade words
    its own errors.
    """
    kind = type(value)
    if isinstance(value, _LAZY):
        return f"<lazy {value.name}>"
    if isinstance(value, _LITERAL):
        return f"Literal({canon(value.value)})"
    if isinstance(value, dict):
        inner = ", ".join(sorted(f"{canon(k)}: {canon(v)}" for k, v in value.items()))
    elif isinstance(value, (set, frozenset)):
        inner = ", ".join(sorted(map(canon, value)))
    elif isinstance(value, Pair):
        inner = f"{canon(value.left)}, {canon(value.right)}"
    elif isinstance(value, (list, tuple, deque)):
        inner = ", ".join(map(canon, value))
    elif isinstance(value, CascadeError):
        inner = "…"
    else:
        inner = repr(value)
    return f"{kind.__name__}({inner})"


def packed(values: Any) -> Any:
    """``values``, or a digest where they would grow without end."""
    text = canon(values)
    return values if len(text) < 200 else zlib.crc32(text.encode())


# -- building ---------------------------------------------------------------------------------


class Build:
    """One making of a program.

    Attributes:
        log: The effects: label and arguments of each call of a task.
        opened, closed: Names of resources, in order.
        blueprints: Id → lazy value to compile.
        resources: To be registered with the engine.
    """

    def __init__(self, program: Program, cs: ModuleType) -> None:
        self.cs: Any = cs
        self.log: list[tuple[str, str]] = []
        self.opened: list[str] = []
        self.closed: list[str] = []
        self._cache = cs.LRUCache()
        self._lock = threading.Lock()
        self._tried: Counter[tuple[str, str]] = Counter()
        #: Entries of the log → how many of these calls failed for a first time, as ``Tries`` say.
        self.failures: Counter[tuple[str, str]] = Counter()
        self._make_resources()
        #: The lazy default of parameters.
        self._late = cs.task(name="late")(self._be_late)()
        self._truth = cs.task(name="truth")(lambda value: value)
        self._tasks: dict[Job, Any] = {}
        self._members: dict[Loop, list[Any]] = {}
        self.blueprints: dict[str, Any] = {}
        for number, job in enumerate(dict.fromkeys(jobs_of(program))):
            if isinstance(job, Job):
                self._tasks[job] = self._task(job, f"t{number}")
            else:
                self._make_loop(job, f"loop{number}")
        self.program = program
        self.shared: list[Any] = []

    def target(self) -> Any:
        """The target; its tasks find everything they need in here."""
        for part in self.program.shared:
            self.shared.append(self._lazy(self.make(part, ())))
        for user, kind, source in self.program.late:
            if user != source and not isinstance(self.program.shared[user], (OrElse, Catch)):
                lazy, other = self.shared[user], self.shared[source]
                lazy.run_if(other) if kind == "run_if" else lazy.after(other)
        return self.make(self.program.target, ())

    def make(self, part: Any, args: tuple[Any, ...]) -> Any:
        """The value of an expression, lazy or not."""
        match part:
            case Const(value):
                return value
            case Arg(place):
                return args[place % len(args)] if args else None
            case Ref(place):
                return self.shared[place] if place < len(self.shared) else None
            case Box(kind, items):
                return _box(kind, [self.make(item, args) for item in items])
            case Lit(inner):
                return self.cs.literal(self.make(inner, args))
            case Gather(items, joins):
                gathered = [self.make(item, args) for item in items]
                return self.cs.gather(*gathered, **self._options(joins, args))
            case Endless(kind):
                return kind(1)
            case Source(name, default):
                return self.cs.Param(name, default=default, type=type(default))
            case Operator("not_", (operand,)):
                return self.cs.not_(self.make(operand, args))
            case Operator(symbol, operands):
                left, *right = [self.make(operand, args) for operand in operands]
                return _OPERATORS[symbol](self._lazy(left), *right)
            case Call():
                return self._call(part, args)
            case Split(call, kind):
                return _box(kind, [*self._call(call, args)][::-1])
            case OrElse(lazy, value):
                other = self._unless_refused(self.make(value, args))
                return self._lazy(self.make(lazy, args)).or_else(other)
            case Catch(lazy, handler):
                given = self._handler(handler, args)
                return self._lazy(self.make(lazy, args)).catch(handler.errors, *given)
            case Map(job, columns, cached, joins, amounts):
                made = {name: self.make(value, args) for name, value in columns}
                lazy = self._of(job).map(**made, **self._options(joins, args))
                self._with_amounts(lazy, amounts, args)
                return self._with_policies(lazy, job, cached)
            case Route(selector, routes):
                made = {key: self.make(value, args) for key, value in routes}
                return self.cs.Router(selector=self.make(selector, args), routes=made)
        raise AssertionError(part)

    def _options(self, joins: Joins, args: tuple[Any, ...]) -> dict[str, Any]:
        options: dict[str, Any] = {"return_exceptions": True} if joins.catches else {}
        for value in joins.skipped:
            options["skipped"] = self._unless_refused(self.make(value, args))
        for handler in joins.handlers:
            options["catch"] = handler.errors, *self._handler(handler, args)
        return options

    def _handler(self, handler: Handler, args: tuple[Any, ...]) -> list[Any]:
        """The handler, if one is given."""
        if handler.task is not None:
            return [self._of(handler.task)]
        if not handler.is_given:
            return []
        return [self._unless_refused(self.make(handler.value, args))]

    def _call(self, call: Call, args: tuple[Any, ...]) -> Any:
        positional = [self.make(value, args) for value in call.args]
        named = {name: self.make(value, args) for name, value in call.kwargs}
        lazy = self._of(call.task)(*positional, **named)
        self._with_policies(lazy, call.task, call.cached)
        self._with_amounts(lazy, call.amounts, args)
        if call.run_if is not None:
            lazy.run_if(self._lazy(self.make(call.run_if, args)))
        return lazy.after(*[self._lazy(self.make(other, args)) for other in call.after])

    def _with_policies(self, lazy: Any, task: Job | Loop, cached: bool | None = None) -> Any:
        if task.tries is not None and not task.tries.declared:
            lazy.with_retry(task.tries.attempts, delay=task.tries.delay)
        if task.priority:
            lazy.with_priority(task.priority)
        return lazy if cached is None else lazy.with_cache(self._cache if cached else None)

    def _with_amounts(self, lazy: Any, amounts: Any, args: tuple[Any, ...]) -> None:
        """Values that are no numbers there are made lazy, so that they are met during the run."""
        for name, part in amounts:
            amount = self.make(part, args)
            number = isinstance(amount, (int, float)) and 0 <= amount <= CAPACITIES[name]
            lazy.with_capacity(**{name: amount if number else self._lazy(amount)})

    def _unless_refused(self, given: Any) -> Any:
        """``given`` as what a node continues as: a literal of a lazy value stands in a list."""
        return [given] if isinstance(given, _LITERAL) and isinstance(given.value, _LAZY) else given

    def _lazy(self, value: Any) -> Any:
        return value if isinstance(value, _LAZY) else self._truth(value)

    def _of(self, job: Job | Loop) -> Any:
        return self._tasks[job] if isinstance(job, Job) else self._members[job][0]

    # -- tasks --------------------------------------------------------------------------------

    def _task(self, job: Job, label: str) -> Any:
        def act(*args: Any, **kwargs: Any) -> Any:
            self._begin(job, label, [args, kwargs])
            return self._do(job.body, (*args, *kwargs.values()))

        function = _awaiting(self._shaped(job.signature, act), job.pauses)
        # On a machine that is busy, anything may seem to block.
        blocks = job.pauses is not None
        options = {**job.options, "cache": self._cache} if job.cached else job.options
        make = self.cs.task(name=label, mode=job.mode, nout=job.nout, may_block=blocks, **options)
        return make(function)

    def _be_late(self) -> str:
        with self._lock:
            self.log.append(("late", ""))
        return "late"

    def _begin(self, task: Job | Loop, label: str, arguments: Any) -> None:
        """Note a call, and whether it sees another's variable; fail if it is one of the first."""
        if tone.get(CALLERS) is not CALLERS:
            label += " with a context variable that another task has set"
        if task.binds:
            bind()
        call = label, canon(arguments)
        with self._lock:
            self.log.append(call)
            self._tried[call] += 1
            if task.tries is not None and self._tried[call] <= task.tries.failures:
                self.failures[call] += 1
                raise ConnectionError("not yet")

    def _do(self, body: Any, args: tuple[Any, ...]) -> Any:
        match body:
            case Pack():
                return packed(list(args))
            case Give(value):
                return self._unless_refused(self.make(value, args))
            case Fail(error, text):
                raise error(text)
            case Cancel():
                return body
            case Uncalled(method):
                return getattr(self._truth, method) if method else self._truth
        raise AssertionError(body)

    def _shaped(self, signature: str, act: Callable[..., Any]) -> Callable[..., Any]:
        """``act`` behind one of several signatures."""
        if signature == "any":
            return lambda *args, **kwargs: act(*args, **kwargs)
        if signature == "some":
            return lambda a, b=10, *, c=20: act(a, b, c=c)
        if signature == "full":
            return lambda a, /, b=10, *rest, c=20, **more: act(a, b, *rest, c=c, **more)
        a_file, a_cursor = self.cs.inject(self._file), self.cs.inject("cursor")
        bound_thing, a_pool, a_hub = map(self.cs.inject, ("bound", self._pool, "hub"))
        if signature == "file":
            return lambda a=1, *, file=a_file: act(a, file=file)
        if signature == "late":
            later, box = self._late, (self._late, 1)
            return lambda a=1, *, late=later, box=box: act(a, late=late, box=box)
        if signature == "pool":
            return lambda a=1, *, pool=a_pool: act(a, pool=pool)
        if signature == "hub":
            return lambda a=1, hub=a_hub, *, file=a_file: act(a, hub=hub, file=file)
        if signature == "cursor":
            return lambda a=1, cursor=a_cursor, *, file=a_file: act(a, cursor=cursor, file=file)
        return lambda a=1, *, bound=bound_thing: act(a, bound=bound)

    def _make_resources(self) -> None:
        cs = self.cs

        @cs.resource
        def file():
            self.opened.append("file")
            yield "a file"
            self.closed.append("file")

        a_file = cs.inject(file)

        @cs.resource(scope="task")
        async def cursor(file=a_file):
            await asyncio.sleep(0)
            self.opened.append("cursor")  # from here on it is open; before, a cancel ends it
            yield f"a cursor over {file}"
            await asyncio.sleep(0)
            self.closed.append("cursor")

        @cs.resource(thread_bound=True)
        def bound():
            self.opened.append("bound")
            yield "a bound thing"
            self.closed.append("bound")

        self._make_engines_resources()
        self._file = file
        self.resources += [file, cursor, bound]

    def _make_engines_resources(self) -> None:
        """In an engine for one run, they are as those of the run (M7)."""
        cs = self.cs

        @cs.resource(scope="engine")
        def pool():
            self.opened.append("pool")
            yield "a pool"
            self.closed.append("pool")

        a_pool = cs.inject(pool)

        @cs.resource(scope="engine")
        async def hub(pool=a_pool):
            await asyncio.sleep(0)
            self.opened.append("hub")  # from here on it is open; before, a cancel ends it
            yield f"a hub of {pool}"
            await asyncio.sleep(0)
            self.closed.append("hub")

        self._pool = pool
        self.resources = [hub]

    # -- loops --------------------------------------------------------------------------------

    def _make_loop(self, loop: Loop, label: str) -> None:
        members = self._members[loop] = []
        for place, pauses in enumerate(loop.pauses):
            name = f"{label}.{place}"
            turn = functools.partial(self._turn, loop, label, place)
            declared = {} if loop.tries is None else loop.tries.options
            make = self.cs.task(name=name, may_block=pauses is not None, **declared)
            keep = self._late if loop.late else f"kept {place}"
            members.append(make(_awaiting(_turning(turn, keep), pauses)))
            self.blueprints[name] = members[-1](0)

    def _turn(self, loop: Loop, label: str, place: int, n: Any, acc: Any, keep: Any) -> Any:
        self._begin(loop, f"{label}.{place}", [n, acc, keep])
        if not isinstance(n, int) or n >= len(loop.steps):
            return self._do(loop.body, (n, acc, keep))
        step = loop.steps[n]
        value = self.make(step.value, (n, acc, keep))
        following = self._members[loop][step.to % len(loop.pauses)]
        name = f"{label}.{step.to % len(loop.pauses)}"
        cs, one_more = self.cs, n + 1
        match step.style:
            case "named":
                return cs.TailCall(kwargs={"n": one_more, "acc": value})
            case "placed":
                return cs.TailCall(args=(one_more, value))
            case "unnamed":
                return cs.TailCall(kwargs={"n": one_more})
            case "kept":
                return cs.TailCall(kwargs={"n": one_more, "keep": cs.literal(value)})
            case "lazy n":
                return cs.TailCall(args=[self._truth(one_more)], kwargs={"keep": value})
            case "tail":
                return following.tail(one_more, acc=value)
            case "target":
                return cs.TailCall(kwargs={"n": one_more}, target=following)
            case "id":
                return cs.TailCall((one_more,), {"acc": value}, name)
            case "id, unnamed":
                return cs.TailCall(kwargs={"n": one_more}, target_blueprint_id=name)
            case "generation":
                return self._with_policies(following(one_more, acc=value), loop)
            case "unknown name":
                return cs.TailCall(kwargs={"n": one_more, "nobody": value})
            case "too many":
                return cs.TailCall(args=(one_more, value, value))
            case "missing":
                return cs.TailCall(kwargs={"acc": value}, target=self._other(loop, place))
            case "unknown id":
                return cs.TailCall(target_blueprint_id="nowhere")
        raise AssertionError(step.style)

    def _other(self, loop: Loop, place: int) -> Any:
        return self._members[loop][place - 1] if len(loop.pauses) > 1 else self._truth


def _turning(turn: Callable[..., Any], keep: Any) -> Callable[..., Any]:
    return lambda n, acc=0, *, keep=keep: turn(n, acc, keep)


def bind() -> None:
    """Set a context variable, as functions for logs and traces do on behalf of a task."""
    tone.set([])


def _awaiting(func: Callable[..., Any], pauses: int | None) -> Callable[..., Any]:
    """``func`` as a coroutine function that gives way; a plain one where ``pauses`` is None."""

    @functools.wraps(func)
    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        for _ in range(pauses or 0):
            await asyncio.sleep(0)
        value = func(*args, **kwargs)
        return await _cancelled(value.way) if isinstance(value, Cancel) else value

    @functools.wraps(func)
    def plain(*args: Any, **kwargs: Any) -> Any:
        value = func(*args, **kwargs)
        if isinstance(value, Cancel):
            raise asyncio.CancelledError
        return value

    return plain if pauses is None else wrapped


async def _cancelled(way: str) -> Any:
    """A cancel from inside, which is a CancelledError where no event loop runs."""
    task = asyncio.current_task() if asyncio._get_running_loop() else None
    if task is None or way == "raised":
        raise asyncio.CancelledError
    if way == "awaited":
        future = task.get_loop().create_future()
        future.cancel()
        await future
    if way == "later":
        await asyncio.sleep(0)
    task.cancel()
    if way == "swallowed":
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
    elif way != "returned":
        await asyncio.sleep(0)
    return "a value"


def _box(kind: Any, parts: list[Any]) -> Any:
    if issubclass(kind, dict):
        pairs = {key if _hashable(key) else place: key for place, key in enumerate(parts)}
        return defaultdict(int, pairs) if kind is defaultdict else kind(pairs)
    if kind in (set, frozenset):
        return kind(part for part in parts if _hashable(part))
    return kind(parts, len(parts)) if kind in (Point, Pair) else kind(parts)


def _hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


# -- limits -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """A change of the engine's constraints, after some turns of the event loop.

    Attributes:
        turns: Since the change before, or the beginning; 0: before the run.
        scope: For which tasks.
        kind: Of the constraint; None to remove the present ones.
        value: Of the constraint.
    """

    turns: int
    scope: str
    kind: str | None
    value: Any = None

    def make(self, constraints: Any) -> None:
        if self.kind is None:
            constraints.remove(self.scope)
        elif self.kind == "pause":
            constraints.pause(self.scope, ttl=self.value)
        elif self.kind == "concurrency":
            constraints.limit_concurrency(self.scope, self.value)
        else:
            constraints.limit_rate(self.scope, self.value, burst=3)


# -- drawing ----------------------------------------------------------------------------------

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
_supplied = ["file", "cursor", "bound", "pool", "hub", "late"]
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
    """

    fails: int = 0
    cycles: bool = False
    caches: bool = True
    depth: int = 3
    shared: int = 4
    joins: bool = False


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
            + ["gather", "route", "source", "split", "operator"]
        )
    )
    if kind == "source":
        return draw(
            st.sampled_from([Source("limit", 1), Source("name", "us"), Source("other", "x")])
        )
    if kind == "operator":
        return draw(_operators(profile, inner))
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
        return draw(_maps(profile, depth, made, met, in_body, inner))
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
    return Handler(kinds, task=draw(_jobs(profile, depth, met, signatures)))


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
def _maps(
    draw: Any, profile: Profile, depth: int, made: int, met: int, in_body: bool, inner: Any
) -> Map:
    cached = draw(_cached(profile))
    joins = draw(_joins(profile, depth, met, inner))
    length = draw(st.integers(0, 3))
    off = draw(st.booleans()) if profile.fails else False

    def column(items: Any) -> Any:
        if off and draw(_rarely):
            endless = Endless(draw(st.sampled_from([itertools.count, itertools.repeat])))
            return draw(st.sampled_from([endless, Call(Job("any", None, Give(endless)))]))
        size = length + 1 if off and draw(st.booleans()) else length
        if draw(st.integers(0, 3)) == 0:  # a map over a map (R8)
            return draw(_inner_maps(profile, depth, met, items, size))
        parts = tuple(draw(st.lists(items, min_size=size, max_size=size)))
        box = Box(draw(st.sampled_from([list, tuple])), parts)
        if draw(st.booleans()):
            return box
        return Call(Job(draw(st.sampled_from(["any", "file"])), draw(_pauses), Give(box)))

    if draw(st.integers(0, 3)) == 0:
        loop = draw(_loops(profile, depth, met))
        amounts = draw(_amounts(profile, inner, bool(cached)))
        return Map(loop, (("n", column(st.integers(0, 3).map(Const))),), cached, joins, amounts)
    job = draw(_jobs(profile, depth, met, st.sampled_from(["some", "any", "file", "pool", "late"])))
    given = [("a", column(inner))]
    if job.signature not in _supplied and draw(st.booleans()):
        shared = st.one_of(inner.map(Lit), st.none())
        fixed = draw(shared)
        given.append(("c", column(inner) if fixed is None else fixed))
    amounts = draw(_amounts(profile, inner, bool(cached) or job.cached))
    return Map(job, tuple(given), cached, joins, amounts)


@functools.cache
@st.composite
def _inner_maps(draw: Any, profile: Profile, depth: int, met: int, items: Any, size: int) -> Map:
    """A map that another one goes over."""
    job = draw(_jobs(profile, depth, met, st.sampled_from(["some", "any", "file"])))
    parts = Box(list, tuple(draw(st.lists(items, min_size=size, max_size=size))))
    column = draw(st.sampled_from([parts, Call(Job("any", None, Give(parts)))]))
    cached = profile.caches and draw(_rarely)
    return Map(job, (("a", column),), cached, draw(_joins(profile, depth, met, items)))


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
