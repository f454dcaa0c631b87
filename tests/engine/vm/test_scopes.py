"""A name in a fused loop is the variable that it is in the task's function.

Each body is a separate module, with ``f`` to start from. Its results and effects on each tier equal
those in the interpreter, step for step.
"""

import sys

import pytest
from tests.engine.vm.test_fuser import imported, outcome, tiers_of, untraced

import cascade as cs
from cascade.runtime.loops.fused import is_traced

HEAD = """\
import functools
import cascade as cs
from tests.engine.vm.bodies import LOG, log, one

x = "global x"
total = "global total"


def guarded(function):
    try:
        return function()
    except Exception as error:
        return error.__class__.__name__, str(error)


"""


def body(*lines, tail="f.tail(n - 1, (*found, got))"):
    """A task with lines that set ``got``; it catches all their errors."""
    inner = "".join(f"        {line}\n" for line in lines)
    return (
        f"@cs.task\ndef f(n, found=()):\n    if not n:\n        return found\n    try:\n{inner}"
        "    except Exception as error:\n        got = error.__class__.__name__, str(error)\n"
        f"    return {tail}\n"
    )


#: Name → a source, each of them fused on every Python.
FUSED = {
    "list": body("got = [type for type in (1, 2)], type(n).__name__"),
    "set": body("got = {len for len in (1, 2)}, len('abc')"),
    "dict": body("got = {str: repr for str, repr in [(1, 2)]}, str(n), repr(n)"),
    "generator expression": body("got = list(type for type in (1, 2)), type(n).__name__"),
    "a global": body("got = [x for x in (1, 2)], x"),
    "a global that is declared": body("global x", "got = [x for x in (1, 2)], x").replace(
        "    if not n", "    global total\n    if not n"
    ),
    "the task": body("got = [f for f in (1, 2)], f.name"),
    "what the loop is made with": body("got = [cs for cs in (1, 2)], cs.TailCall.__name__").replace(
        "f.tail(n - 1, (*found, got))", "cs.TailCall([n - 1, (*found, got)])"
    ),
    "nested": body("got = [[type for type in range(x)] for x in (1, 2)], x, type(n).__name__"),
    "beside an inner function": body("got = [x for x in (1, 2)], (lambda: x)()"),
    "inside an inner function": body("got = (lambda: ([x for x in (1, 2)], x))()"),
    "kept by inner functions": body("got = [g() for g in [lambda: x for x in (1, 2)]], x"),
    "in an argument": body("got = x", tail="f.tail(n - 1, (*[x for x in found], got, x))"),
    "in a condition": body("got = x", tail="f.tail(n - 1, (x,)) if [x for x in (1,)] else x"),
    "in an f-string": body("got = f'{[x for x in (1, 2)]}{x}'"),
    "class": body("class C:", "    y = [x for x in (1, 2)], x", "got = C.y, x"),
    "attributes of a class": body(
        "class C:", "    def __init__(self): self.b, self.a, self.c = 1, 2, 3", "got = C().b, x"
    ),
    "class that asks for what is above it": body(
        "class C(Exception):",
        "    def __init__(self): super().__init__(x)",
        "got = C().args, [x for x in (1,)]",
    ),
    "parameter of a lambda": body("got = (lambda x, type: (x, type))(1, 2), x, type(n).__name__"),
    "name of an error": body(
        "try:", "    1 // 0", "except ArithmeticError as e:", "    got = 1", "got = got, e"
    ),
    "a variable that is never set": body("got = missing", "missing = 1"),
    "a variable of the same name": body("got = [v for v in (1, 2)]", "got = got, v", "v = 1"),
    "match": body("match [1, 2]:", "    case [y, *z]:", "        got = [x for x in z], x, y"),
    "del": body("y = 1", "del y", "got = [y for y in (1,)], guarded(lambda: x), y"),
    "imports": body("import math as x", "got = [y for y in (1,)], x.floor(2.5)"),
    "imported names in an inner function": body(
        "got = (lambda: functools.reduce(lambda a, b: a + b, (1, 2)))()"
    ),
}


def in_a_closure(source):
    """The module, with the task in a function that may have its names as variables."""
    lines = "".join(f"    {line}\n" if line else "\n" for line in source.splitlines())
    made = "f = make('closed over', repr, max)"
    return f"def make(x, type, len):\n{lines}\n    return f\n\n\n{made}\n"


#: Name → (source, the oldest Python that reads it).
NEWER = {
    "walrus": (body("got = [y := x for x in (1, 2)], y, x"), (3, 11)),
    "walrus of a variable that is not set": (
        body("got = [last := x for x in ()], last"),
        (3, 11),
    ),
    "type parameters": (body("got = [T for T in (1,)], n").replace("f(n", "f[T](n"), (3, 12)),
    "type parameter that is used": (body("got = T.__name__").replace("f(n", "f[T](n"), (3, 12)),
    "type alias": (body("type A = list[x]", "got = A.__name__, [A for A in (1,)]"), (3, 12)),
    "type alias within a comprehension's name": (body("type x = int", "got = x.__name__"), (3, 12)),
    "generic function": (body("def g[T](a: T) -> T: return a", "got = g(x)"), (3, 12)),
    "generic class": (body("class C[T]:", "    y: T = x", "got = C.y"), (3, 12)),
    "quotes in quotes": (body("got = f'{'a' + f'{x}' + [x for x in 'bc'][0]}'"), (3, 12)),
    "annotations of an inner function": (body("def g(a: x): return a", "got = g(x)"), (3, 11)),
    "annotation that is a comprehension": (
        body("def g(a: [x for x in (1,)]): return a", "got = g(x)"),
        (3, 11),
    ),
    "template string": (body("got = t'{x}'.values"), (3, 14)),
    "errors without brackets": (
        body("try: 1 // 0", "except ValueError, ArithmeticError: got = [x for x in (1,)], x"),
        (3, 14),
    ),
}


async def hold(tmp_path, source, fused=True):
    """Assert that it means the same in each tier, and that ``fused`` is one of them."""
    path = tmp_path / "body.py"
    path.write_text(HEAD + source)
    module = imported(path)
    if fused and not is_traced():
        assert cs.explain(module.f).tier == "fused", f"{cs.explain(module.f)}\n{source}"
    seen = {
        tier: await outcome(lambda: module.f(6), tier, (str(path),))
        for tier in ("interpreted", *tiers_of(module.f))
    }
    for tier, found in seen.items():
        assert found == seen["interpreted"], f"{tier}\n{source}"
    return seen["interpreted"][0]


@pytest.mark.parametrize("source", FUSED.values(), ids=FUSED)
async def test_a_name_is_the_variable_that_it_is_in_the_function(tmp_path, source):
    await hold(tmp_path, source)


@pytest.mark.parametrize("source", FUSED.values(), ids=FUSED)
async def test_a_name_is_the_variable_of_the_function_around(tmp_path, source):
    await hold(tmp_path, in_a_closure(source), fused=False)


@pytest.mark.parametrize("source", FUSED.values(), ids=FUSED)
async def test_a_name_is_the_variable_that_it_is_in_the_coroutine_function(tmp_path, source):
    await hold(tmp_path, source.replace("def f", "async def f"))


@pytest.mark.parametrize(("source", "since"), NEWER.values(), ids=NEWER)
async def test_scopes_of_newer_pythons(tmp_path, source, since):
    if sys.version_info < since:
        pytest.skip(f"Python {'.'.join(map(str, since))} or newer reads it")
    await hold(tmp_path, source, fused=False)


async def test_an_asynchronous_comprehension_keeps_its_variable(tmp_path):
    helper = "async def some(items):\n    for item in items:\n        yield item\n\n\n"
    lines = helper + body(
        "got = [x async for x in some((1, 2))], x",
        "got += [[len async for len in some((x,))] for x in (1,)], len('a'), x",
    )
    assert await hold(tmp_path, lines.replace("def f", "async def f"))


@untraced
async def test_the_variable_of_a_comprehension_is_not_one_of_the_step(tmp_path):
    """The value itself: an error that is swallowed would be the same in no tier but one."""
    found = await hold(tmp_path, body("got = [type for type in (1, 2)], type(n).__name__"))
    assert found == ((([1, 2], "int"),) * 6)


PAIR = """\
@cs.task
def f(n, found=()):
    if not n:
        return found
    return g.tail(n - 1, (*found, {one}))


@cs.task
def g(m, so_far=()):
    {declared}
    try:
        {first}
        got = {other}
    except Exception as error:
        got = str(error)
    return f.tail(m, (*so_far, got))
"""


@pytest.mark.parametrize(
    ("one", "declared", "first", "other"),
    [
        ("[x for x in (1,)]", "pass", "pass", "x"),
        ("x", "pass", "pass", "[x for x in (1,)], x"),
        ("[so_far for so_far in (1,)]", "pass", "pass", "so_far"),
        ("[x for x in (1,)]", "pass", "x = 5", "x"),
        ("x", "pass", "x = 5", "x"),
        ("(lambda: x)()", "pass", "x = 5", "x"),
        ("total", "global found", "pass", "total"),
        ("log.x if n < 0 else n", "pass", "x = 5", "x"),
    ],
)
async def test_tasks_that_share_a_loop_keep_their_variables(tmp_path, one, declared, first, other):
    source = PAIR.format(one=one, declared=declared, first=first, other=other)
    await hold(tmp_path, source, fused=False)


async def test_a_global_of_one_task_is_not_a_closure_variable_of_another(tmp_path):
    source = """\
def make(x):
    @cs.task
    def f(n, found=()):
        return g.tail(n - 1, (*found, x)) if n > 0 else found

    return f


def make_other():
    unused = 0

    @cs.task
    def g(n, found=()):
        assert unused == 0
        return f.tail(n - 1, (*found, x)) if n > 0 else found

    return g


f, g = make("closed over"), make_other()
"""
    assert await hold(tmp_path, source, fused=False) == ("closed over", "global x") * 3


async def test_a_comprehension_of_one_task_hides_no_closure_variable_of_another(
    tmp_path,
):
    """On CPython 3.12 and 3.13 it would, in one function for both."""
    source = """\
def make(x):
    @cs.task
    def f(n, found=()):
        return g.tail(n - 1, (*found, [x for x in (1,)])) if n > 0 else found

    @cs.task
    def g(n, found=()):
        return f.tail(n - 1, (*found, guarded(lambda: x))) if n > 0 else found

    return f


f = make("closed over")
"""
    assert await hold(tmp_path, source, fused=False) == ([1], "closed over") * 3


SAFE = """\
@cs.task
def f(n, got=0):
    if not n:
        return type(got).__name__
    {line}
    return f.tail(n - 1, got)
"""


@pytest.mark.parametrize(
    "line",
    ["[got := len(1) for len in (one,)]", "got = [len(1) for len in (one,)][0]"],
)
async def test_a_builtin_is_not_trusted_where_a_comprehension_hides_it(tmp_path, line):
    """The lazy value is resolved before the next step has it (M2)."""
    assert await hold(tmp_path, SAFE.format(line=line), fused=False) == "int"


async def test_a_builtin_is_not_trusted_where_another_task_closes_over_it(tmp_path):
    source = """\
def make(len):
    base = 0

    @cs.task
    def f(n, got=0):
        assert not base
        return g.tail(n - 1, got) if n else type(got).__name__

    @cs.task
    def g(m, got=0):
        got = len(1)
        return f.tail(m, got)

    return f


f = make(one)
"""
    assert await hold(tmp_path, source, fused=False) == "int"


async def test_a_builtin_that_is_hidden_later_is_not_trusted_any_more(tmp_path):
    path = tmp_path / "later.py"
    path.write_text(HEAD + SAFE.format(line="got = len('a')"))
    module = imported(path)
    assert (await outcome(lambda: module.f(3), "auto", ()))[0] == "int"
    module.len = module.one
    assert (await outcome(lambda: module.f(3), "auto", ()))[0] == "str"


@pytest.mark.parametrize("reader", ["locals", "vars", "dir", "eval", "exec"])
def test_a_body_that_reads_its_frame_is_found_by_its_calls(tmp_path, reader):
    path = tmp_path / "reads.py"
    path.write_text(f"{HEAD}look = {reader}\n" + body("got = len(look('n')) if n < 0 else 1"))
    refusal = cs.explain(imported(path).f).refusals[0]
    assert "it uses 'look', which sees the loop" in refusal.reason


@pytest.mark.parametrize(
    "source",
    [
        body("got = [__cs_state for __cs_state in (1, 2)]"),
        body("got = [__cs_steps for __cs_steps in (1, 2)], (lambda __cs_step: __cs_step)(1)"),
        body("got = guarded(lambda: __cs_state)"),
    ],
)
async def test_names_that_a_loop_has_for_itself_are_not_fused(tmp_path, source):
    await hold(tmp_path, source, fused=False)
    refusal = cs.explain(imported(tmp_path / "body.py").f).refusals[0]
    assert "names that begin with '__cs_'" in refusal.reason
