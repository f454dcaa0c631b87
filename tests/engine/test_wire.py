"""What goes to other processes and back: tasks, lazy values, errors, and why something cannot go.

``loads(dumps(x))`` stands for the way there; a worker of its own does the same, see the tests of
executors.
"""

import ast
import decimal
import json
import math
import operator
import pickle
import socket
import subprocess
import sys
import threading
import traceback
import urllib.error
import zipfile
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import remote_tasks
from tests.remote_tasks import OddError, add, same
from tests.spec.test_errors import BUILTINS, PUBLIC

import cascade as cs
from cascade.spec import culprits, wire, wire_errors
from cascade.spec.containers import GATHER
from cascade.spec.errors import RemoteError, SendError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.rebuilt_errors import builtin_base
from cascade.spec.traces import Frame, frames_of, traceback_of

OWN = sys.modules[__name__]


def sent(value):
    return wire.loads(wire.dumps(value))


def error_sent(error):
    return wire_errors.loads_error(wire_errors.dumps_error(error))


def raised(function, *args):
    try:
        function(*args)
    except BaseException as error:
        return error
    raise AssertionError("it has raised nothing")


# -- tasks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [add, remote_tasks.double, cs.eq, cs.sleep], ids=str)
def test_a_task_of_a_module_goes_as_its_name(task):
    assert sent(task) is task
    assert len(wire.dumps(task)) < 150
    assert wire.pack(task) is wire.pack(task)


def test_so_does_its_function_which_the_module_does_not_name():
    assert sent(add.func) is add.func
    with pytest.raises(pickle.PicklingError):
        pickle.dumps(add.func)


def test_a_task_without_a_name_in_a_module_goes_by_value_and_comes_back_as_itself():
    by = 4
    task = cs.task(mode="process", nout=2, version="2", retry=3)(lambda x: (x * by, x))
    assert sent(task) is task
    other = in_another_process(task)
    assert other == {"mode": "process", "nout": 2, "version": "2", "value": (12, 3), "tries": 3}


def in_another_process(task):
    code = (
        "import sys, pickle\n"
        "task = pickle.loads(sys.stdin.buffer.read())\n"
        "from cascade.spec import wire\n"
        "found = {n: getattr(task, n) for n in ('mode', 'nout', 'version')}\n"
        "found |= {'value': task.func(3), 'tries': task.policies.retry.max_attempts}\n"
        "assert wire.loads(wire.dumps(task)) is task\n"
        "print(found)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=wire.dumps(task), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return ast.literal_eval(done.stdout.decode())


def test_tasks_that_need_each_other_go_together():
    @cs.task
    def even(n):
        return True if n == 0 else odd.tail(n - 1)

    @cs.task
    def odd(n):
        return False if n == 0 else even.tail(n - 1)

    assert sent([even, odd]) == [even, odd]
    assert wire.pack(even).token != wire.pack(odd).token


class Scale:
    def __init__(self, by):
        self.by = by

    @cs.task
    def times(self, x):
        return self.by * x


def test_a_task_of_an_object_goes_with_its_object():
    bound = sent(cs.task(name="same")(lambda x: x)) and Scale(3).times
    there = sent(Scale(3))
    assert cs.run(there.times(2)) == cs.run(bound(2)) == 6


# -- lazy values ----------------------------------------------------------------------------------


def test_a_program_goes_with_its_shared_nodes_policies_and_places():
    shared = add(1)
    target = add(shared, same(shared)).with_retry(3).with_timeout(2.5).run_if(cs.eq(shared, 2))
    there, again = sent((target, shared))
    assert there.args[0] is again
    assert there.args[1].args[0] is again
    assert there._calls.timeout == 2.5
    assert there._calls.retry.max_attempts == 3
    assert there._conditions[0].args[0] is again
    assert there.callsite == target.callsite
    assert there.id != target.id
    assert cs.run(there) == 4


def test_a_long_chain_needs_no_recursion(many):
    lazy = add(0)
    for _ in range(many):
        lazy = add(lazy)
    assert cs.run(sent(lazy)) == many + 1


def test_nodes_keep_their_order():
    first, second = add(1), add(2)
    there = sent([second.after(first), first])
    assert there[1].number < there[0].number


@pytest.mark.parametrize(
    ("make", "value"),
    [
        (lambda: add.map(a=[1, 2]), [2, 3]),
        (lambda: add.map(a=add.map(a=same([1, 2])), b=[5, 6]), [7, 9]),
        (lambda: cs.gather(add(1), same("x")), [2, "x"]),
        (lambda: same([add(1), {"a": add(2)}, (add(3), {4})]), [2, {"a": 3}, (4, {4})]),
        (lambda: (add(1) + add(2)) * 2 - 1, 9),
        (lambda: -add(1) > same(-3), True),
        (lambda: ~cs.eq(add(1), 3), True),
        (lambda: add(1).run_if(same(False)).or_else(add(8)), 9),
        (lambda: remote_tasks.reciprocal(0).catch(ZeroDivisionError, same), "division by zero"),
        (lambda: add(cs.literal(2)), 3),
        (lambda: same(cs.Param("x", 7, type=int)), 7),
        (lambda: cs.Router(selector=same("b"), routes={"a": add(1), "b": add(2)}), 3),
        (lambda: same({"a": 5})["a"], 5),
    ],
)
def test_every_kind_of_node(make, value):
    found = cs.run(sent(make()))
    assert (str(found) if isinstance(found, Exception) else found) == value


def test_operations_of_this_layer_stay_themselves():
    assert sent(GATHER) is GATHER
    gathered = sent(cs.gather(add(1), add(2)))
    assert gathered.task is GATHER


def test_a_node_of_two_values_in_two_places_is_one_node():
    calls = []

    @cs.task
    def noted():
        calls.append(1)
        return 1

    node = noted()
    assert cs.run(sent([{"a": node}, [node], node])) is not None
    left, right = sent((add(node), add(node)))
    assert left.args[0] is right.args[0]


#: Programs of a few nodes, each of which uses earlier ones.
programs = st.lists(
    st.tuples(st.sampled_from("aslmpc"), st.integers(0, 99), st.integers(0, 99)), max_size=12
)


def built(plan):
    nodes: list[LazyResult] = [add(1)]
    for kind, one, other in plan:
        a, b = nodes[one % len(nodes)], nodes[other % len(nodes)]
        nodes.append(
            {
                "a": lambda a=a, b=b: add(a, b),
                "s": lambda a=a: same(a),
                "l": lambda a=a, b=b: same([a, {"x": b}])[1]["x"],
                "m": lambda a=a, b=b: add.map(a=[a, 1], b=[b, 2])[0],
                "p": lambda a=a, b=b: a * 2 + b,
                "c": lambda a=a, b=b: add(a).run_if(cs.eq(b, b + 1)).or_else(b),
            }[kind]()
        )
    return nodes


@given(programs)
def test_a_program_means_the_same_there(plan):
    nodes = built(plan)
    there = sent(nodes)
    assert len({id(node) for node in there}) == len(nodes)
    assert cs.run(there) == cs.run(nodes)


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
)


@given(st.lists(plain), st.dictionaries(st.text(), plain))
def test_arguments_arrive_as_they_are(args, kwargs):
    assert wire.loads(wire.dumps_call(args, kwargs)) == (tuple(args), kwargs)


def test_without_cloudpickle_the_error_says_how_to_get_it(monkeypatch):
    for function in (wire._cloudpickle, wire._pickler):
        function.cache_clear()
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    try:
        assert sent(add) is add
        assert cs.run(sent(add(add(1), same([add(2)])[0]))) == 5
        with pytest.raises(pickle.PicklingError, match=r"pip install 'cascade-engine\[process\]'"):
            wire.dumps(cs.task(name="local")(lambda: 1))
    finally:
        monkeypatch.undo()
        for function in (wire._cloudpickle, wire._pickler):
            function.cache_clear()


# -- errors ---------------------------------------------------------------------------------------


def test_an_error_keeps_its_frames_which_show_the_right_lines():
    error = raised(remote_tasks.fails_from.func, 1)
    there = error_sent(error)
    assert type(there) is OddError
    for one, other in [(error, there), (error.__cause__, there.__cause__)]:
        frames = [*frames_of(one.__traceback__)]
        assert [*frames_of(other.__traceback__)] == frames
        shown = traceback.extract_tb(other.__traceback__)
        assert [entry.line for entry in shown] == [
            entry.line for entry in traceback.extract_tb(one.__traceback__)
        ]
    assert str(there) == str(error)
    assert traceback.format_exception(there)[-1] == traceback.format_exception(error)[-1]


def test_a_deep_traceback():
    def down(n):
        return 1 / n if n == 0 else down(n - 1)

    frames = [*frames_of(error_sent(raised(down, 200)).__traceback__)]
    assert len(frames) == 202
    assert [*frames_of(traceback_of(frames))] == frames
    assert traceback_of([]) is None
    assert [*frames_of(traceback_of([Frame("x.py", 7, "f")]))] == [("x.py", 7, "f")]


class Holder(Exception):
    def __init__(self, lock):
        super().__init__("held", lock)
        self.lock = lock
        self.kept = 5


def test_parts_of_an_error_that_cannot_go_are_named_in_a_note():
    there = error_sent(Holder(threading.Lock()))
    assert type(there) is Holder
    assert there.kept == 5
    assert there.args[0] == "held"
    assert "lock" in there.args[1]
    assert there.__notes__ == ["parts of it could not be sent to this process: lock, args"]


def test_an_error_of_an_unknown_class_keeps_its_text_and_frames():
    data = wire_errors.dumps_error(raised(remote_tasks.fails_from.func, 1))
    parts = wire.loads(data)
    parts["kind"] = pickle.dumps(OddError).replace(b"OddError", b"NoError!")
    there = wire_errors.loads_error(wire.dumps(parts))
    assert type(there) is RemoteError
    assert str(there) == "OddError: http://x: 404"
    assert there.type_name == "tests.remote_tasks:OddError"
    assert [frame.name for frame in frames_of(there.__traceback__)] == ["raised", "fails_from"]
    assert isinstance(there.__cause__, ValueError)


def test_groups_notes_causes_and_contexts():
    def fail():
        try:
            raise ExceptionGroup("some", [ValueError(1), OddError("a", 1)])
        except ExceptionGroup as error:
            error.add_note("noted")
            raise KeyError("k") from None

    there = error_sent(raised(fail))
    assert there.__suppress_context__
    group = there.__context__
    assert isinstance(group, ExceptionGroup)
    assert group.__notes__ == ["noted"]
    assert [repr(member) for member in group.exceptions] == ["ValueError(1)", "OddError('a: 1')"]


def test_a_chain_of_causes_ends_somewhere():
    error = ValueError(0)
    for number in range(1, 2000):
        outer = ValueError(number)
        outer.__cause__ = error
        error = outer
    assert str(error_sent(error)) == "1999"


class Slotted(Exception):
    __slots__ = ("code",)


@dataclass(frozen=True)
class Frozen(Exception):
    code: int


def _os():
    Path("/nowhere/at/all").read_text()


ODD = [
    lambda: json.loads("{"),
    _os,
    lambda: "ä".encode("ascii"),
    lambda: b"\xff".decode("utf-8"),
    lambda: ast.parse("(", "page.py"),
    lambda: __import__("no_such_module_at_all"),
    lambda: subprocess.run([sys.executable, "-c", "raise SystemExit(3)"], check=True),
    lambda: decimal.Decimal("x"),
    lambda: math.sqrt(-1),
    lambda: [].pop(),
    lambda: eval('{}["k"]'),
    lambda: eval("None.nothing"),
    lambda: eval("nothing_of_this_name"),
    lambda: (_ for _ in ()).throw(urllib.error.HTTPError("http://x", 404, "no", Message(), None)),
    lambda: (_ for _ in ()).throw(urllib.error.URLError("away")),
    lambda: (_ for _ in ()).throw(zipfile.BadZipFile("bad")),
    lambda: (_ for _ in ()).throw(socket.gaierror(2, "unknown")),
    lambda: (_ for _ in ()).throw(KeyboardInterrupt()),
    lambda: (_ for _ in ()).throw(SystemExit(3)),
    lambda: (_ for _ in ()).throw(Frozen(3)),
    lambda: (_ for _ in ()).throw(Slotted(1)),
    lambda: (_ for _ in ()).throw(TimeoutError()),
    lambda: operator.add(1, "x"),
    lambda: int("x" * 10),
    lambda: (_ for _ in ()).throw(StopAsyncIteration(1)),
]


@pytest.mark.parametrize("fail", ODD)
def test_errors_of_other_libraries(fail):
    error = raised(fail)
    there = error_sent(error)
    assert type(there) is type(error)
    assert str(there) == str(error)
    assert repr(there.args) == repr(error.args)
    for name in ("errno", "filename", "code", "reason", "lineno", "pos", "returncode", "name"):
        assert repr(getattr(there, name, None)) == repr(getattr(error, name, None))


@pytest.mark.parametrize("name", BUILTINS)
def test_errors_of_cascade(name):
    kind = PUBLIC[name]
    more = {"seconds": 1.5, "capacity": "gpu", "place": "here", "task": "t", "run_id": "r"}
    error = builtin_base(kind).__new__(kind, "no")
    error.args = ("no",)
    for attribute, value in more.items():
        setattr(error, attribute, value)
    there = error_sent(error)
    assert type(there) is kind
    assert str(there) == str(error)
    assert {n: getattr(there, n) for n in more} == more


# -- culprits -------------------------------------------------------------------------------------


@dataclass
class Config:
    name: str
    client: object


class Slots:
    __slots__ = ("lock",)


def _lock():
    return threading.Lock()


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (_lock(), "it"),
        ([1, _lock()], "it[1]"),
        ({"a": (1, {"b": _lock()})}, "it['a'][1]['b']"),
        ({("x", 1): _lock()}, "it[('x', 1)]"),
        ({"{}": _lock()}, "it['{}']"),
        (Config("x", _lock()), "it.client"),
        ([Config("x", {"y": _lock()})], "it[0].client['y']"),
        (remote_tasks.Client(), "it.pool['main']"),
        (frozenset([remote_tasks.Client().pool["main"]]), "an element of it"),
        ((_ for _ in ()), "it"),
        ({remote_tasks.Client(): 1}, None),
        (sys._getframe(), "it"),
        ([[[[[_lock()]]]]], "it[0][0][0][0][0]"),
        (Scale(_lock()).times, "it"),
        (Scale(_lock()), "it.by"),
        (add(_lock()), "it"),
    ],
)
def test_the_smallest_part_that_cannot_be_sent_is_named(value, place):
    problem = wire.problem_of(value)
    assert problem is not None
    error = culprits.unsendable("it", value, problem)
    assert isinstance(error, SendError)
    if place is not None:
        assert error.place == place
    assert f"{error.place} cannot be sent to another process: it is " in str(error)
    assert error.__cause__ is not None


def test_so_is_what_a_function_takes_along():
    lock = threading.Lock()

    def outer():
        return inner()

    def inner():
        return lock

    problem = wire.problem_of(outer)
    place = culprits.unsendable("task 'outer'", outer, problem).place
    assert place == "the variable 'lock' of the variable 'inner' of task 'outer'"


def test_what_can_be_sent_has_no_problem():
    assert wire.problem_of([add, add(1), {1: (2, 3)}]) is None
