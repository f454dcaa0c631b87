"""The transitive hash of code: what changes it, what does not, and what cannot be known."""

import importlib
import itertools
import os
import subprocess
import sys
import textwrap
from types import FunctionType

import pytest

from cascade.graph.codehash import changes, code_hash
from cascade.graph.guards import content_of
from cascade.graph.readings import Readings
from cascade.spec.task import task

_numbers = itertools.count()

HELPERS = """
SCALE = 3
TABLE = {"a": [1, 2]}

def scale(x):
    return x * SCALE

class Base:
    rate = 2
    def cost(self, n):
        return n * self.rate

class Model(Base):
    def fit(self, rows):
        try:
            first = rows[0]
            return scale(first)
        except LookupError:
            return self.cost(0)

    @property
    def size(self):
        return 1

    @staticmethod
    def parse(text):
        return int(text)

class Unused:
    pass
"""
FLOWS = """
import functools
import json
from cascade.spec.task import task
import helpers
from helpers import Model, TABLE

def checked(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        assert args, "none"
        return function(*args, **kwargs)
    return wrapper

def power(exponent):
    @task
    def raised(n, *, more=(1, 2)):
        return n ** exponent
    return raised

@task
def clean(rows, limit=10):
    model = Model()
    total = [row for row in rows if row < limit]
    return model.fit(total) + helpers.SCALE

@task
@checked
def decorated(x):
    return json.dumps(x)

@task
def later(x):
    from helpers import scale
    return scale(x)

@task
def table(key):
    return TABLE[key]

@task
def outer(x):
    def inner(y):
        return helpers.scale(y)
    return [inner(x), lambda: helpers.SCALE]

@task
def calls(x):
    return clean(x)

cubed = power(3)
"""


class Package:
    """Two modules that can be edited."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        self.sources = {"helpers": HELPERS, "flows": FLOWS}
        monkeypatch.syspath_prepend(str(folder))

    def edit(self, module, old, new):
        assert old in self.sources[module], old
        self.sources[module] = self.sources[module].replace(old, new)
        return self

    def load(self):
        """The tasks of ``flows`` as they are now."""
        for name, source in self.sources.items():
            # A new size each time: Python keeps bytecode by size and second.
            text = f"{source}\n#{'#' * next(_numbers)}\n"
            (self.folder / f"{name}.py").write_text(text)
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        return importlib.import_module("flows")

    def hash(self, name="clean"):
        return code_hash(getattr(self.load(), name))


@pytest.fixture
def package(tmp_path, monkeypatch):
    yield Package(tmp_path, monkeypatch)
    for name in ("helpers", "flows"):
        sys.modules.pop(name, None)


# -- what changes nothing -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("flows", "    model = Model()", "    # a comment\n\n    model = Model()"),
        ("flows", "def clean(rows, limit=10):", "def clean(\n    rows,\n    limit=10,\n):"),
        ("flows", "def clean(rows, limit=10):", 'def clean(rows, limit=10):\n    """What."""'),
        ("flows", "if row < limit]", "if (row\n        < limit)]"),
        ("helpers", "def scale(x):", 'def scale(x):\n    """What."""'),
        ("helpers", "class Base:", 'class Base:\n    """What."""'),
        ("helpers", "            first = rows[0]", "            pass\n            first = rows[0]"),
        ("helpers", "class Unused:", "class Unused:\n    x = 1"),
        ("helpers", "class Model", "\n\n\ndef another(x): return x\n\nclass Model"),
        ("flows", "def table(key):", "def table(key, more=1):"),
        ("flows", "def power(exponent):", "def power(exponent, more=1):"),
        ("flows", "clean(rows, limit=10)", "clean(rows: list, limit: int = 10) -> int"),
    ],
)
def test_an_edit_that_changes_no_meaning_changes_no_hash(package, module, old, new):
    before = package.hash()
    after = package.edit(module, old, new).hash()

    assert changes(before, after) == []
    assert before.digest == after.digest


def test_a_docstring_of_a_function_that_returns_nothing_changes_no_hash(package):
    """Its constant would come before None."""
    package.edit("flows", "    return clean(x)", "    clean")
    before = package.hash("calls")
    after = package.edit("flows", "    clean\n", '    """What."""\n    clean\n').hash("calls")

    assert before.digest == after.digest


# -- what changes it ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "module", "old", "new", "changed"),
    [
        ("clean", "flows", "model.fit(total) +", "model.fit(total) -", "flows:clean changed"),
        ("clean", "flows", "limit=10", "limit=11", "flows:clean (default 0) (value) changed"),
        ("clean", "flows", "rows, limit=10", "rows, most=10", "flows:clean changed"),
        ("clean", "helpers", "x * SCALE", "x + SCALE", "helpers:scale changed"),
        ("clean", "helpers", "SCALE = 3", "SCALE = 4", "helpers:SCALE (value) changed"),
        ("clean", "helpers", "SCALE = 3", "SCALE = 3.0", "helpers:SCALE (value) changed"),
        ("clean", "helpers", "rate = 2", "rate = 3", "helpers:Base.rate (value) changed"),
        ("clean", "helpers", "return n * self.rate", "return n", "helpers:Base.cost changed"),
        ("clean", "helpers", "class Model(Base)", "class Model", "helpers:Base is gone"),
        ("clean", "helpers", "return int(text)", "return text", "helpers:Model.parse changed"),
        ("clean", "helpers", "        return 1", "        return 2", "helpers:Model.size changed"),
        (
            "clean",
            "helpers",
            "        try:\n            first = rows[0]\n",
            "        first = rows[0]\n        try:\n",
            "helpers:Model.fit changed",
        ),
        ("decorated", "flows", "assert args, ", "assert kwargs, ", "wrapper changed"),
        ("decorated", "flows", "json.dumps(x)", "json.dumps([x])", "flows:decorated"),
        ("later", "helpers", "x * SCALE", "x + SCALE", "helpers:scale changed"),
        ("table", "helpers", "[1, 2]", "[1, 3]", "flows:TABLE (value) changed"),
        ("outer", "helpers", "x * SCALE", "x + SCALE", "helpers:scale changed"),
        ("outer", "helpers", "SCALE = 3", "SCALE = 4", "helpers:SCALE (value) changed"),
        ("calls", "helpers", "x * SCALE", "x + SCALE", "helpers:scale changed"),
        ("cubed", "flows", "power(3)", "power(4)", "(variable exponent) (value) changed"),
        ("cubed", "flows", "more=(1, 2)", "more=(1, 3)", "(default more) (value) changed"),
    ],
)
def test_an_edit_is_found_wherever_the_code_leads(package, name, module, old, new, changed):
    before = package.hash(name)
    after = package.edit(module, old, new).hash(name)

    assert before.digest != after.digest
    assert any(changed in line for line in changes(before, after)), changes(before, after)


def test_a_change_is_told_with_its_way_from_the_task(package):
    before = package.hash("calls")
    after = package.edit("helpers", "x * SCALE", "x + SCALE").hash("calls")

    (line,) = changes(before, after)

    assert line == (
        "helpers:scale changed, used by flows:calls -> flows:clean -> helpers:Model -> "
        "helpers:Model.fit"
    )


def test_the_same_code_has_the_same_hash_in_every_process(package):
    found = package.hash()
    code = (
        "import flows; from cascade.graph.codehash import code_hash;"
        "print(code_hash(flows.clean).digest)"
    )
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", code]
        result = subprocess.run(
            command, cwd=package.folder, env=environment, capture_output=True, text=True, check=True
        )
        assert result.stdout.strip() == found.digest


# -- libraries ------------------------------------------------------------------------------------


def test_a_library_counts_by_its_version(package, monkeypatch):
    package.edit("flows", "import json", "import pytest as json")
    package.edit("flows", "json.dumps(x)", "json.approx(x)")
    before = package.hash("decorated")
    monkeypatch.setattr("cascade.graph.codehash.version_of", lambda top: f"{top}==99")
    after = package.hash("decorated")

    assert before.components["library pytest"] == f"pytest=={pytest.__version__}"
    (line,) = changes(before, after)
    assert line.startswith(f"library pytest was {pytest.__version__} and is 99, used by flows:")


def test_pythons_own_modules_count_by_the_format_of_bytecode(package):
    components = package.hash("decorated").components

    assert not any(name.startswith("library") for name in components if "cascade" not in name)
    assert "bytecode" in components


# -- what cannot be known -------------------------------------------------------------------------

UNKNOWN = """
import threading
from cascade.spec.task import task
import helpers

class Client:
    def get(self): return 1

lock = threading.Lock()
client = Client()
handlers = {"a": helpers.scale}

@task
def locked(x):
    with lock:
        return client.get()

@task
def computed(x):
    return getattr(helpers, x)()

@task
def handled(x):
    return handlers["a"](x)

@task
def not_yet(x):
    import not_there_yet
    return not_there_yet.x
"""


@pytest.mark.parametrize(
    ("name", "untracked"),
    [
        ("locked", {"flows:lock": "lock", "flows:client": "Client"}),
        (
            "computed",
            {"flows:computed (getattr)": "names that are computed", "flows:helpers": "module"},
        ),
        ("handled", {}),
        ("not_yet", {"module not_there_yet": "imported later"}),
    ],
)
def test_what_cannot_be_followed_is_listed(package, name, untracked):
    package.sources["flows"] = UNKNOWN

    found = package.hash(name)

    assert found.untracked == untracked


def test_the_class_of_an_object_without_a_digest_counts(package):
    package.sources["flows"] = UNKNOWN
    before = package.hash("locked")
    after = package.edit("flows", "return 1", "return 2").hash("locked")

    assert [line.partition(",")[0] for line in changes(before, after)] == [
        "flows:Client.get changed"
    ]


def test_functions_inside_of_containers_count(package):
    package.sources["flows"] = UNKNOWN
    before = package.hash("handled")
    after = package.edit("helpers", "x * SCALE", "x + SCALE").hash("handled")

    assert "helpers:scale changed" in changes(before, after)[0]


# -- kinds of code --------------------------------------------------------------------------------

KINDS = """
import enum, functools, abc, dataclasses
from cascade.spec.task import task

class Colour(enum.Enum):
    RED = 1

@dataclasses.dataclass
class Order:
    n: int = 5
    items: list = dataclasses.field(default_factory=list)

class Plan(abc.ABC):
    __slots__ = ("x",)
    @abc.abstractmethod
    def go(self): return 1
    @functools.cached_property
    def kept(self): return 2

@functools.lru_cache
def cached(x): return x + 7

def two(a, b): return a - b

part = functools.partial(two, 8)

def recursive(n): return recursive(n - 1) if n else 0

@task
async def all_of(x):
    async def inner():
        yield x
    class Local:
        '''Doc.'''
        y = 1
    try:
        recursive(1)
    finally:
        cached(1)
    return Colour.RED, Order(), Plan, part, Local, inner, x if x else {1, 2}
"""


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("RED = 1", "RED = 2", "Colour.RED (value)"),
        ("n: int = 5", "n: int = 6", "Order.n (value)"),
        ("default_factory=list", "default_factory=dict", None),
        ("return 1", "return 3", "Plan.go"),
        ("return 2", "return 4", "Plan.kept"),
        ("x + 7", "x + 8", "cached"),
        ("two, 8", "two, 9", "part (arguments)"),
        ("a - b", "a + b", "two"),
        ("if n else 0", "if n else 1", "recursive"),
        ("y = 1", "y = 2", "all_of"),
        ("yield x", "yield -x", "all_of"),
        ("{1, 2}", "{1, 3}", "all_of"),
        ("'''Doc.'''", "'''Another.'''", None),
    ],
)
def test_kinds_of_code(package, old, new, changed):
    package.sources["flows"] = KINDS
    before = package.hash("all_of")
    after = package.edit("flows", old, new).hash("all_of")

    assert before.untracked == {}
    if changed is None:
        assert not any("all_of" in line.partition(",")[0] for line in changes(before, after))
    else:
        assert any(changed in line.partition(",")[0] for line in changes(before, after))


# -- the second call ------------------------------------------------------------------------------


def test_a_second_call_gives_the_same_object(package):
    flows = package.load()

    assert code_hash(flows.clean) is code_hash(flows.clean)


def another(x):
    return x


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("clean", lambda flows, helpers: setattr(helpers, "SCALE", 5)),
        ("clean", lambda flows, helpers: setattr(helpers, "scale", another)),
        ("clean", lambda flows, helpers: setattr(helpers.scale, "__code__", another.__code__)),
        ("clean", lambda flows, helpers: setattr(helpers.Model, "fit", another)),
        ("clean", lambda flows, helpers: setattr(helpers.Model, "more", another)),
        ("clean", lambda flows, helpers: setattr(helpers.Base, "rate", 7)),
        ("clean", lambda flows, helpers: setattr(flows.clean.func, "__defaults__", (11,))),
        ("table", lambda flows, helpers: helpers.TABLE["a"].append(3)),
        ("table", lambda flows, helpers: helpers.TABLE.update(b=another)),
        ("cubed", lambda flows, helpers: setattr(_cell(flows.cubed), "cell_contents", 4)),
    ],
)
def test_a_change_in_the_process_is_noticed(package, name, change):
    flows = package.load()
    before = code_hash(getattr(flows, name))
    change(flows, sys.modules["helpers"])

    after = code_hash(getattr(flows, name))

    assert after.digest != before.digest


def _cell(made):
    return made.func.__closure__[0]


def test_a_builtin_that_is_hidden_by_a_global_is_noticed(package):
    package.edit("flows", "return TABLE[key]", "return len(TABLE)")
    flows = package.load()
    before = code_hash(flows.table)
    flows.len = another

    assert code_hash(flows.table).digest != before.digest


def test_tasks_that_share_a_table_have_it_digested_once(package, monkeypatch):
    flows = package.load()
    first, second = (task(FunctionType(flows.table.func.__code__, vars(flows))) for _ in "ab")
    read = []
    monkeypatch.setattr(
        "cascade.graph.readings.content_of", lambda value: read.append(value) or content_of(value)
    )

    for _ in range(2):  # the second time, by the guards
        readings = Readings()
        found = [code_hash(each, readings) for each in (first, second)]
        assert found[0].components == found[1].components
        assert read.count(sys.modules["helpers"].TABLE) == 1
        read.clear()
    sys.modules["helpers"].TABLE["a"].append(3)
    assert code_hash(first, Readings()).digest != found[0].digest


def test_a_task_of_this_file_has_a_hash():
    @task
    def work(n):
        return textwrap.indent(str(n), "")

    assert code_hash(work).untracked == {}
