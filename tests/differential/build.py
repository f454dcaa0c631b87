"""Makes fresh tasks and lazy values of a program, from ``cascade`` or from the naive evaluator.

What draws programs stands elsewhere: a run searches the functions of its tasks for lazy values
(M21), and would enter hypothesis's strategies each time.
"""

import asyncio
import functools
import operator
import threading
import zlib
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from types import ModuleType
from typing import Any

from tests.differential import naive
from tests.differential.programs import (
    CAPACITIES,
    Arg,
    Box,
    Call,
    Cancel,
    Catch,
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
    Ref,
    Route,
    Sleep,
    Source,
    Split,
    Stream,
    Uncalled,
    jobs_of,
)

from cascade.spec.blueprint import Literal
from cascade.spec.errors import CascadeError
from cascade.spec.lazy_types import LazyResult

#: Values that tasks set, and the caller's: equal to a task's value, but not the same (M12).
tone: ContextVar[object] = ContextVar("tone")
CALLERS: list[object] = []
_LAZY = LazyResult, naive.Lazy
_LITERAL = Literal, naive.Literal
OPERATORS: dict[str, Callable[..., Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "+": operator.add,
    "~": operator.invert,
    "divmod": divmod,
    "round": round,
}


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


def _failing(_so_far: Any, value: Any) -> Any:
    raise LookupError(f"no fold of {canon(value)}")


#: Functions that fold the values of a map: "lazy" returns a lazy value besides, which is refused.
FOLDS: dict[str, Callable[[Any, Any], Any]] = {
    "pack": lambda so_far, value: packed([so_far, value]),
    "last": lambda _so_far, value: value,
    "+": operator.add,
    "fails": _failing,
    "stops": lambda _so_far, _value: next(iter(())),
}


def _each(items: list[Any], error: Fail | None) -> Iterator[Any]:
    yield from items
    if error is not None:
        raise error.error(error.text)


async def _each_later(items: list[Any], error: Fail | None) -> AsyncIterator[Any]:
    for item in _each(items, error):
        await asyncio.sleep(0)
        yield item


#: Kinds of sources that are read once.
STREAMS: dict[str, Callable[[list[Any], Fail | None], Any]] = {
    "iterator": lambda items, _error: iter(items),
    "generator": _each,
    "async": _each_later,
}


class Build:
    """One making of a program.

    Attributes:
        log: The effects: label and arguments of each call of a task.
        opened, closed: Names of resources, in order.
        blueprints: Id → lazy value to compile.
        resources: To be registered with the engine.
    """

    def __init__(self, program: Program, cs: ModuleType, cache: Any = None) -> None:
        """Begin to make a program.

        Args:
            program: The program.
            cs: What it is made with.
            cache: A cache that all tasks declare; by default a new one for those that say so.
        """
        self.cs: Any = cs
        self._all_cached = cache is not None
        self.log: list[tuple[str, str]] = []
        self.opened: list[str] = []
        self.closed: list[str] = []
        self._cache = cs.LRUCache() if cache is None else cache
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
                return OPERATORS[symbol](self._lazy(left), *right)
            case Call():
                return self._call(part, args)
            case Split(call, kind):
                return _box(kind, [*self._call(call, args)][::-1])
            case Sleep(then):
                return self.cs.sleep(0, then=self.make(then, args))
            case OrElse(lazy, value):
                other = self._unless_refused(self.make(value, args))
                return self._lazy(self.make(lazy, args)).or_else(other)
            case Catch(lazy, handler):
                given = self._handler(handler, args)
                return self._lazy(self.make(lazy, args)).catch(handler.errors, *given)
            case Stream(kind, items, error):
                return STREAMS[kind]([self.make(item, args) for item in items], error)
            case Map(job, columns, cached, joins, amounts, window, fold):
                made = {name: self.make(value, args) for name, value in columns}
                options = {**self._options(joins, args), **self._windowing(window, fold, args)}
                lazy = self._of(job).map(**made, **options)
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

    def _windowing(
        self, window: int | None, fold: Fold | None, args: tuple[Any, ...]
    ) -> dict[str, Any]:
        options: dict[str, Any] = {} if window is None else {"window": window}
        if fold is not None:
            for value in fold.initial:
                options["initial"] = self._unless_refused(self.make(value, args))
            if isinstance(fold.reducer, str):
                options["fold"] = self._folding(fold.reducer)
            elif fold.reducer is not None:
                options["fold"] = self._of(fold.reducer)
        return options

    def _folding(self, name: str) -> Any:
        """A function that is no task, whose calls are effects, too."""
        if name == "coroutine":  # which M29 refuses
            return _awaiting(FOLDS["last"], 0)

        def fold(so_far: Any, value: Any) -> Any:
            is_callers = tone.get(CALLERS) is CALLERS
            with self._lock:
                label = f"fold {name}" if is_callers else f"fold {name} in another context"
                self.log.append((label, canon([so_far, value])))
            return self._truth(value) if name == "lazy" else FOLDS[name](so_far, value)

        return fold

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
        is_cached = job.cached or self._all_cached
        options = {**job.options, "cache": self._cache} if is_cached else job.options
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
        if signature == "session":
            a_session = self.cs.inject("session")
            return lambda a=1, session=a_session, *, pool=a_pool: act(a, session=session, pool=pool)
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
        self._make_held_resources()
        self._file = file
        self.resources += [file, cursor, bound]

    def _make_held_resources(self) -> None:
        """Those that the worker of a call opens and closes: one on top of another (M7)."""
        cs = self.cs
        a_pool = cs.inject(self._pool)

        @cs.resource(scope="task")
        def ledger(pool=a_pool):
            self.opened.append("ledger")
            yield f"a ledger of {pool}"
            self.closed.append("ledger")

        a_ledger = cs.inject(ledger)

        @cs.resource(scope="task")
        def session(ledger=a_ledger):
            self.opened.append("session")
            yield f"a session with {ledger}"
            self.closed.append("session")

        self.resources.append(session)

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
