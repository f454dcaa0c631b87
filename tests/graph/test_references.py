"""Documents from elsewhere name objects for a run to call: the allowed names, and their limits."""

from __future__ import annotations

import json
import sys
from enum import Enum
from pathlib import Path
from types import ModuleType

import pytest

import cascade as cs
from cascade.graph.portable import blueprint_from_json
from cascade.graph.references import Resolver, portable
from cascade.graph.serialize import from_json, to_json
from cascade.spec.errors import ArgumentError, SerializationError, TaskNotImportedError


class Size(Enum):
    SMALL = "s"


@portable
def celsius(text):
    return (float(text) - 32) / 1.8


def unmarked(text):
    return text


@portable
def is_busy(error):
    return "busy" in str(error)


@portable
def wait(error, attempt):
    return attempt


class Group:
    @staticmethod
    def inside(): ...

    @property
    def made(self):
        raise AssertionError("a property was read")


@cs.task
def load(name="x"):
    return name


def graph(*nodes):
    return json.dumps({"cascade": 1, "nodes": list(nodes)})


def call(reference):
    return {"task": reference, "args": [], "kwargs": {}}


def param(kind):
    return {"param": "p", "type": kind, "description": ""}


def blueprint(*instructions):
    return json.dumps(
        {
            "blueprint": 1,
            "registers": 1,
            "entry": 0,
            "rooted": False,
            "args": [],
            "kwargs": {},
            "var_args": None,
            "var_kwargs": None,
            "defaults": [],
            "sources": [],
            "nodes": [],
            "instructions": [{**one, "out": 0} for one in instructions],
        }
    )


@pytest.fixture
def other_module(tmp_path, monkeypatch):
    """A module that says that it runs, and is not imported."""
    ran = tmp_path / "ran"
    text = f"import cascade as cs\nopen({str(ran)!r}, 'w').close()\n@cs.task\ndef work(): ...\n"
    (tmp_path / "module_from_elsewhere.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield ran
    sys.modules.pop("module_from_elsewhere", None)


@pytest.mark.parametrize("read", [from_json, blueprint_from_json])
@pytest.mark.parametrize("where", ["task", "map", "namedtuple", "provider", "type", "retry"])
def test_reading_does_not_import_a_module(read, where, other_module):
    name = "module_from_elsewhere:work"
    form = {
        "task": call(name),
        "map": {"map": name, "over": {}},
        "namedtuple": {**call(f"{__name__}:load"), "args": [{"$namedtuple": [name, []]}]},
        "provider": {**call(f"{__name__}:load"), "args": [{"$provider": name}]},
        "type": param(name),
        "retry": {**call(f"{__name__}:load"), "retry": {"on": name}},
    }[where]
    if where == "map" and read is blueprint_from_json:
        form = {"map": {"task": name, "names": [], "shared": {}}}
    document = graph(form) if read is from_json else blueprint(form)
    with pytest.raises(
        TaskNotImportedError, match=r"modules=\['module_from_elsewhere'\]"
    ) as caught:
        read(document)

    assert caught.value.module == "module_from_elsewhere"
    assert "module_from_elsewhere" not in sys.modules
    assert not other_module.exists()


@pytest.mark.parametrize("read", [from_json, blueprint_from_json])
def test_a_module_that_the_caller_lists_is_imported(read, other_module):
    form = call("module_from_elsewhere:work")
    read(graph(form) if read is from_json else blueprint(form), modules=["module_from_elsewhere"])

    assert other_module.exists()


@pytest.mark.parametrize("modules", ["flows", [""], [1], [None]])
def test_modules_must_be_a_list_of_names(modules):
    with pytest.raises(ArgumentError, match=r"^modules takes the names of modules"):
        Resolver(modules)


def test_no_code_runs_to_find_a_name(monkeypatch):
    """A module can import more when a name is asked for, and a property is a call."""
    lazy = ModuleType("module_that_imports_more")
    asked = lazy.__dict__["asked"] = []
    lazy.__dict__["__getattr__"] = asked.append
    monkeypatch.setitem(sys.modules, lazy.__name__, lazy)
    for name in ("module_that_imports_more:work", f"{__name__}:Group.made.x"):
        with pytest.raises(SerializationError, match="has no attribute"):
            Resolver().find(name)

    assert asked == []


def test_a_task_inside_a_class_is_found():
    assert Resolver().find(f"{__name__}:Group.inside") is Group.inside


@pytest.mark.parametrize(
    "kind",
    ["os:system", "os:_exit", "subprocess:getoutput", "builtins:eval", f"{__name__}:unmarked"],
)
def test_a_converter_is_known_or_marked(kind):
    import subprocess  # noqa: F401  # so that only the mark is missing

    for read, document in (
        (from_json, graph(param(kind))),
        (blueprint_from_json, blueprint(param(kind))),
    ):
        with pytest.raises(SerializationError, match=r"nor marked: decorate it "):
            read(document)


@pytest.mark.parametrize("kind", [str, int, float, bool, Path, Size, celsius])
def test_known_types_enumerations_and_marked_functions_convert(kind):
    assert from_json(to_json(cs.Param("p", type=kind))).target.type is kind


@pytest.mark.parametrize("condition", ["os:_exit", f"{__name__}:unmarked"])
def test_a_retry_condition_must_be_an_error_type_or_marked(condition):
    node = {**call(f"{__name__}:load"), "retry": {"max_attempts": 2, "on": condition}}
    with pytest.raises(SerializationError, match=r"is neither a type of exceptions nor marked"):
        from_json(graph(node))


def test_a_marked_condition_makes_the_trip():
    for on in (OSError, (OSError, KeyError), is_busy):
        assert from_json(to_json(load().with_retry(on=on))).target._calls.retry.on == on


def test_a_marked_function_for_the_delays_makes_the_trip():
    again = from_json(to_json(load().with_retry(delay=wait, jitter=0.5))).target._calls.retry
    assert (again.delay, again.jitter) == (wait, 0.5)


@pytest.mark.parametrize("delay", ["os:_exit", f"{__name__}:unmarked", "builtins:OSError"])
def test_a_function_for_the_delays_must_be_marked(delay):
    node = {**call(f"{__name__}:load"), "retry": {"delay": delay, "on": "builtins:OSError"}}
    with pytest.raises(SerializationError, match=r"is neither a number of seconds nor marked"):
        from_json(graph(node))


def test_an_unmarked_function_is_refused_when_it_is_written():
    marked = load().with_retry(delay=lambda error, attempt: 0)
    for lazy in (cs.Param("p", type=unmarked), load().with_retry(on=unmarked), marked):
        with pytest.raises(SerializationError, match=r"decorate it with @cs\.portable$"):
            to_json(lazy)


@pytest.mark.parametrize("thing", [3, lambda text: text, "celsius"])
def test_only_functions_with_a_name_are_marked(thing):
    with pytest.raises(ArgumentError, match=r"^portable\(\) takes a function or a class"):
        portable(thing)


def test_another_function_of_the_same_name_is_not_marked(monkeypatch):
    def other(text):
        return text

    other.__qualname__ = "celsius"
    monkeypatch.setitem(globals(), "celsius", other)
    with pytest.raises(SerializationError, match="nor marked"):
        from_json(graph(param(f"{__name__}:celsius")))
