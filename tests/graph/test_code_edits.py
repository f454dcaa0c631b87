"""A mutation test of the code in keys: each edit of a program changes the keys of the tasks that
depend on it, and of no others.
"""

from __future__ import annotations

import subprocess
import sys
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from cascade.graph import libraries
from cascade.graph.call_keys import call_key

HELPERS = '''\
"""Helpers of the flow."""
import dataclasses
import enum
import functools
import math

FACTOR = 3
RATE = 0.0
PREFIX = "a"


def factor():
    return FACTOR


def scale(x, by=1):
    """Scale it."""
    # a comment
    return x * by * factor()


def other(x):
    return x - 1


def traced(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)
    return wrapper


def steps(x):
    for n in range(x):
        yield n * 2


class Base:
    def go(self):
        return 1


class Derived(Base):
    pass


class Model:
    rate = 0.5

    def __init__(self, size=1):
        self.size = size

    def fit(self, x):
        return x + self.size

    @property
    def width(self):
        return self.size * 2

    @staticmethod
    def parse(text):
        return int(text)

    @classmethod
    def make(cls):
        return cls(2)

    def __call__(self, x):
        return x * 9


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclasses.dataclass
class Config:
    depth: int = 1

    def limit(self):
        return self.depth + 1
'''
FLOW = '''\
"""A flow."""
import functools

import cascade as cs
import edited_helpers as h
from edited_helpers import Colour, Config, Derived, Model, scale as scaled, steps, traced

LIMIT = 10
TABLE = {"a": {"b": 1}}
ITEMS = [1, 2]
CHOSEN = {1, 2}
MIXED = (1, "x", 2.5)
half = lambda x: x / 2
thrice = functools.partial(h.scale, by=3)
MODEL = Model(4)
HANDLERS = {"a": h.other}


def local(x):
    return x + LIMIT


def make(n):
    @cs.task
    def closure(x):
        return x + n
    return closure


@cs.task
def body(x):
    """What it does."""
    # a comment
    return (x + 1) * 2


@cs.task
def helped(x):
    return h.scale(x)


@cs.task
def constant(x):
    return min(x, LIMIT)


@cs.task
def default(x, y=3, *, z="z"):
    return x, y, z


closure = make(2)


@cs.task
def attribute(x):
    return Model.rate * x


@cs.task
def inherits(x):
    return Derived().go()


@cs.task
@traced
def decorated(x):
    return x


@cs.task
def aliased(x):
    return scaled(x, 2)


@cs.task
def table(x):
    return TABLE["a"]["b"], ITEMS, CHOSEN


@cs.task
def mixed(x):
    return MIXED


@cs.task
def lambdas(x):
    return half(x)


@cs.task
def partials(x):
    return thrice(x)


@cs.task
def instance(x):
    return HANDLERS["a"](x)


@cs.task
def coloured(x):
    return Colour.RED


@cs.task
def generated(x):
    return list(steps(x))


@cs.task
async def awaited(x):
    return local(x)


@cs.task
def imports(x):
    from edited_helpers import PREFIX
    return PREFIX + x


@cs.task
def nested(x):
    def inner(y):
        return [z + 1 for z in y if z > 0]
    return inner(x)


@cs.task
def caught(x):
    try:
        return 1 / x
    except ZeroDivisionError:
        return 0


@cs.task
def configured(x, config=Config()):
    return config.limit()


@cs.task
def applies(x, function=h.other):
    return function(x)


@cs.task(version="1")
def versioned(x):
    return x


@cs.task
def summed(x):
    import numpy as np
    return np.sum(x)


@cs.task
def branches(x):
    return "low" if x < 3 else 0
'''


class Edit(NamedTuple):
    """A change of the program, and the tasks whose calls have to be made again.

    ``old`` is replaced by ``new`` in the file; or ``change`` changes the running program.
    """

    name: str
    changed: set[str]
    file: str = ""
    old: str = ""
    new: str = ""
    change: Callable[[Any, Any], object] | None = None


def load(sources: dict[str, str], folder: str = "/srv/flows") -> tuple[Any, Any]:
    """The modules, as a new process would import them."""
    made = []
    for name in ("edited_helpers", "edited_flow"):
        module = types.ModuleType(name)
        module.__file__ = f"{folder}/{name}.py"
        sys.modules[name] = module
        exec(compile(sources[name], module.__file__, "exec"), vars(module))
        made.append(module)
    return made[0], made[1]


def keys(
    sources: dict[str, str],
    change: Callable[[Any, Any], object] | None = None,
    folder: str = "/srv/flows",
) -> dict[str, bytes]:
    """Task → the key of a call of it."""
    helpers, flow = load({"edited_helpers": HELPERS, "edited_flow": FLOW, **sources}, folder)
    if change is not None:
        change(helpers, flow)
    found = {}
    for name, task in vars(flow).items():
        if hasattr(task, "func") and hasattr(task, "parameters"):
            found[name] = call_key(task, task.parameters.named((5,), {})).digest
    return found


@pytest.fixture(autouse=True)
def modules():
    yield
    for name in ("edited_helpers", "edited_flow"):
        sys.modules.pop(name, None)


FLOW_FILE, HELP = "edited_flow", "edited_helpers"
SCALERS = {"helped", "aliased", "partials"}
CONFIG = {"configured"}
OTHERS = {"applies", "instance"}

EDITS = [
    # What is no change.
    Edit("a comment", set(), FLOW_FILE, "    # a comment\n", "    # another\n\n"),
    Edit("a comment of a helper", set(), HELP, "    # a comment\n", "    # another\n"),
    Edit("a docstring", set(), FLOW_FILE, '"""What it does."""', '"""What it really does."""'),
    Edit("a docstring removed", set(), FLOW_FILE, '    """What it does."""\n', ""),
    Edit("a docstring of a helper", set(), HELP, '"""Scale it."""', '"""Multiply."""'),
    Edit("the docstring of the module", set(), HELP, '"""Helpers of', '"""Some helpers of'),
    Edit("formatting", set(), FLOW_FILE, "(x + 1) * 2", "(\n        x\n        + 1\n    ) * 2"),
    Edit("redundant parentheses", set(), FLOW_FILE, "min(x, LIMIT)", "(min((x), (LIMIT)))"),
    Edit("blank lines at the top", set(), FLOW_FILE, "LIMIT = 10\n", "\n\n\nLIMIT = 10\n"),
    Edit("an annotation", set(), FLOW_FILE, "def body(x):", "def body(x: int) -> int:"),
    Edit("an unused import", set(), FLOW_FILE, "import functools\n", "import functools, os\n"),
    Edit("an unused global", set(), FLOW_FILE, "LIMIT = 10\n", "LIMIT = 10\nMORE = 11\n"),
    Edit("an unused function", set(), HELP, "def other(", "def unused(): pass\n\ndef other("),
    Edit("an unused constant of a helper", set(), HELP, "RATE = 0.0", "RATE = 1.0"),
    Edit("functions in another order", set(), HELP, "def factor():\n    return FACTOR\n\n\n", ""),
    Edit("a retry", set(), FLOW_FILE, "@cs.task\ndef body", "@cs.task(retry=3)\ndef body"),
    Edit("pure", set(), FLOW_FILE, "@cs.task\ndef body", "@cs.task(pure=True)\ndef body"),
    Edit("a constant expression", set(), FLOW_FILE, "LIMIT = 10\n", "LIMIT = 2 * 5\n"),
    Edit("a dict written in another order", set(), FLOW_FILE, "{1, 2}", "{2, 1}"),
    Edit("reading a global", set(), change=lambda h, f: f.constant.func(3)),
    # The task itself.
    Edit("the body", {"body"}, FLOW_FILE, "(x + 1) * 2", "(x + 1) * 3"),
    Edit("an operator", {"body"}, FLOW_FILE, "(x + 1) * 2", "(x - 1) * 2"),
    Edit("a type of a constant", {"body"}, FLOW_FILE, "(x + 1) * 2", "(x + 1) * 2.0"),
    Edit("True for 1", {"body"}, FLOW_FILE, "(x + 1) * 2", "(x + True) * 2"),
    Edit("a comparison", {"branches"}, FLOW_FILE, "x < 3", "x <= 3"),
    Edit("a text", {"branches"}, FLOW_FILE, '"low"', '"high"'),
    Edit("bytes for text", {"branches"}, FLOW_FILE, '"low"', 'b"low"'),
    Edit("the sign of zero", {"branches"}, FLOW_FILE, "else 0\n", "else -0.0\n"),
    Edit("a default", {"default"}, FLOW_FILE, "x, y=3", "x, y=4"),
    Edit("a keyword default", {"default"}, FLOW_FILE, 'z="z"', 'z="y"'),
    Edit("the name of a parameter", {"default"}, FLOW_FILE, "x, y=3, *", "x, w=3, *"),
    Edit("the body of an inner function", {"nested"}, FLOW_FILE, "z + 1 for", "z + 2 for"),
    Edit("a condition of a comprehension", {"nested"}, FLOW_FILE, "if z > 0", "if z > 1"),
    Edit("the error that is caught", {"caught"}, FLOW_FILE, "ZeroDivisionError", "ValueError"),
    Edit("what a handler gives", {"caught"}, FLOW_FILE, "        return 0\n", "        return 9\n"),
    Edit("the version", {"versioned"}, FLOW_FILE, 'version="1"', 'version="2"'),
    Edit("a plain function for async", {"awaited"}, FLOW_FILE, "async def awaited", "def awaited"),
    # What it names.
    Edit("a constant", {"constant", "awaited"}, FLOW_FILE, "LIMIT = 10", "LIMIT = 11"),
    Edit("a helper", SCALERS, HELP, "x * by * factor()", "x + by * factor()"),
    Edit("the default of a helper", SCALERS, HELP, "by=1", "by=2"),
    Edit("a helper's helper", SCALERS, HELP, "return FACTOR", "return FACTOR + 1"),
    Edit("the constant of that", SCALERS, HELP, "FACTOR = 3", "FACTOR = 4"),
    Edit("a helper in the same file", {"awaited"}, FLOW_FILE, "return x + LIMIT", "return LIMIT"),
    Edit("a variable of a closure", {"closure"}, FLOW_FILE, "make(2)", "make(3)"),
    Edit("the body of a closure", {"closure"}, FLOW_FILE, "return x + n", "return x - n"),
    Edit("a class attribute", {"attribute"}, HELP, "rate = 0.5", "rate = 0.6"),
    Edit("a method", {"attribute"}, HELP, "return x + self.size", "return x - self.size"),
    Edit("a constructor", {"attribute"}, HELP, "size=1", "size=5"),
    Edit("a property", {"attribute"}, HELP, "self.size * 2", "self.size * 4"),
    Edit("a static method", {"attribute"}, HELP, "int(text)", "float(text)"),
    Edit("a class method", {"attribute"}, HELP, "cls(2)", "cls(3)"),
    Edit("a special method", {"attribute"}, HELP, "return x * 9", "return x * 8"),
    Edit("a base class", {"inherits"}, HELP, "        return 1\n", "        return 2\n"),
    Edit(
        "another base class", {"inherits"}, HELP, "class Derived(Base)", "class Derived(dict, Base)"
    ),
    Edit("a decorator", {"decorated"}, HELP, "return function(*args)", "return [*args]"),
    Edit("a decorator removed", {"decorated"}, FLOW_FILE, "@traced\n", ""),
    Edit(
        *("an imported alias", {"aliased"}, FLOW_FILE),
        *("scale as scaled, ", "other as scaled, "),
    ),
    Edit("a lambda", {"lambdas"}, FLOW_FILE, "x / 2", "x // 2"),
    Edit("the arguments of a partial", {"partials"}, FLOW_FILE, "by=3)", "by=4)"),
    Edit("a function in a container", OTHERS, HELP, "return x - 1", "return x - 2"),
    Edit("another function there", {"instance"}, FLOW_FILE, '{"a": h.other}', '{"a": h.scale}'),
    Edit("the member of an enumeration", {"coloured"}, HELP, "RED = 1", "RED = 7"),
    Edit("a generator", {"generated"}, HELP, "yield n * 2", "yield n"),
    Edit("a name imported in the body", {"imports"}, HELP, 'PREFIX = "a"', 'PREFIX = "b"'),
    Edit("an element of a tuple", {"mixed"}, FLOW_FILE, '(1, "x", 2.5)', '(1, "y", 2.5)'),
    Edit("a method of an argument", CONFIG, HELP, "self.depth + 1", "self.depth + 2"),
    Edit("the content of an argument", CONFIG, FLOW_FILE, "=Config()", "=Config(2)"),
    # In the running program.
    Edit("a dict changed in place", {"table"}, change=lambda h, f: f.TABLE["a"].update(b=2)),
    Edit("a list changed in place", {"table"}, change=lambda h, f: f.ITEMS.append(3)),
    Edit("a set changed in place", {"table"}, change=lambda h, f: f.CHOSEN.add(3)),
    Edit("a function replaced", SCALERS, change=lambda h, f: setattr(h, "factor", h.other)),
    Edit("a global replaced", {"constant", "awaited"}, change=lambda h, f: setattr(f, "LIMIT", 1)),
    Edit("a method replaced", {"attribute"}, change=lambda h, f: setattr(h.Model, "fit", h.other)),
    Edit("a class attribute set", {"attribute"}, change=lambda h, f: setattr(h.Model, "rate", 2)),
    Edit("a default set", SCALERS, change=lambda h, f: setattr(h.scale, "__defaults__", (7,))),
    Edit("a cell set", {"closure"}, change=lambda h, f: _set_cell(f.closure.func, 9)),
]


def _set_cell(function: Any, value: object) -> None:
    function.__closure__[0].cell_contents = value


@pytest.fixture(scope="module")
def before():
    """The keys before an edit."""
    return keys({"edited_helpers": HELPERS, "edited_flow": FLOW})


@pytest.mark.parametrize("edit", EDITS, ids=[edit.name for edit in EDITS])
def test_an_edit_changes_the_keys_of_the_tasks_that_depend_on_it(edit, before):
    sources = {"edited_helpers": HELPERS, "edited_flow": FLOW}
    if edit.file:
        assert sources[edit.file].count(edit.old) >= 1, "the edit has nothing to change"
        text = sources[edit.file].replace(edit.old, edit.new, 1)
        if edit.name == "functions in another order":
            text += "\n\n" + edit.old
        sources = {**sources, edit.file: text}
    after = keys(sources, edit.change)

    assert {name for name in before if after[name] != before[name]} == edit.changed


def test_a_file_that_was_moved_changes_nothing():
    assert keys({}, folder="/srv/flows") == keys({}, folder="/home/ada/elsewhere")


def test_a_module_that_was_renamed_has_other_tasks():
    assert not set(keys({}).values()) & {
        call_key(task, task.parameters.named((5,), {})).digest
        for task in vars(_renamed()).values()
        if hasattr(task, "parameters") and hasattr(task, "func")
    }


def _renamed() -> Any:
    module = types.ModuleType("edited_other")
    exec(compile(FLOW, "edited_other.py", "exec"), vars(module))
    return module


def test_a_library_that_was_upgraded_changes_the_tasks_that_use_it(monkeypatch):
    before = keys({})
    version_of = libraries.version_of
    monkeypatch.setattr(
        "cascade.graph.codehash.version_of",
        lambda top: "numpy==99.0" if top == "numpy" else version_of(top),
    )
    after = keys({})

    assert {name for name in before if after[name] != before[name]} == {"summed"}


def test_another_python_changes_all_of_them(monkeypatch):
    before = keys({})
    monkeypatch.setattr("importlib.util.MAGIC_NUMBER", b"\x01\x02")
    after = keys({})

    assert not [name for name in before if after[name] == before[name]]


def test_there_are_as_many_kinds_of_edits_as_promised():
    assert len(EDITS) + 4 >= 40
    assert len({edit.name for edit in EDITS}) == len(EDITS)


def test_a_module_that_the_task_imports_when_it_is_called_is_known_before(tmp_path, monkeypatch):
    """Its code would otherwise count only after the first call."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # the files are of one second
    found = []
    for number in (1, 2):
        sys.modules.pop("edited_later", None)
        (tmp_path / "edited_later.py").write_text(f"def later(x):\n    return x + {number}0\n")
        namespace: dict[str, Any] = {"__name__": "edited_flow"}
        source = "import cascade as cs\n@cs.task\ndef call(x):\n"
        exec(source + "    from edited_later import later\n    return later(x)\n", namespace)
        task = namespace["call"]
        keys_ = [call_key(task, {"x": 1}).digest]
        assert task.func(1) == 1 + number * 10
        keys_.append(call_key(task, {"x": 1}).digest)
        assert keys_[0] == keys_[1]
        found.append(keys_[0])
        sys.path_importer_cache.clear()
    sys.modules.pop("edited_later", None)

    assert found[0] != found[1]


def test_a_library_that_is_not_imported_yet_counts_by_its_version():
    code = (
        "import sys, cascade as cs\n"
        "from cascade.graph.codehash import code_hash\n"
        "@cs.task\n"
        "def f(x):\n"
        "    import hypothesis\n"
        "    return hypothesis\n"
        "before = code_hash(f)\n"
        "assert 'hypothesis' not in sys.modules\n"
        "f.func(1)\n"
        "del f.derived['code']\n"
        "assert code_hash(f) == before\n"
        "print(before.components['library hypothesis'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.startswith("hypothesis==")
