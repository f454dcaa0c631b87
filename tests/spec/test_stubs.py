"""Stubs: a module without its bodies, in which each task has exact methods."""

from __future__ import annotations

import ast
import sys
from textwrap import dedent

import pytest

from cascade.spec.typing.stubs import stub_of, tasks_in


def stub(source: str) -> str:
    """The declarations of the stub, without its own imports."""
    text = stub_of("import cascade as cs\n" + dedent(source))
    ast.parse(text)
    return text.partition("import cascade as cs\n")[2].lstrip("\n")


def line(source: str, start: str) -> str:
    """The line of a task's stub that begins so."""
    (found,) = [t.strip() for t in stub(source).splitlines() if t.strip().startswith(start)]
    return found


def call(parameters: str, returns: str = "int") -> str:
    """The signature of a call of a task with these parameters."""
    text = line(f"@cs.task\ndef f({parameters}) -> {returns}: ...", "def __call__")
    return text.removeprefix("def __call__(self, ").removesuffix(": ...")


def test_a_parameter_takes_a_value_or_a_lazy_one():
    assert call("x: int") == "/, x: int | _LazyResult[int]) -> _LazyResult[int]"


def test_a_parameter_without_annotation_takes_anything():
    assert call("x, y=1") == "/, x: _Any, y: _Any = ...) -> _LazyResult[int]"


@pytest.mark.parametrize(
    ("annotation", "more"),
    [
        ("list[int]", "list[int | _LazyResult[int]] | list[_LazyResult[int]]"),
        ("Sequence[int]", "Sequence[int | _LazyResult[int]] | Sequence[_LazyResult[int]]"),
        ("dict[str, int]", "dict[str, int | _LazyResult[int]] | dict[str, _LazyResult[int]]"),
        ("tuple[int, str]", "tuple[int | _LazyResult[int], str | _LazyResult[str]]"),
        ("tuple[int, ...]", "tuple[int | _LazyResult[int], ...]"),
        ("set[int]", "set[int | _LazyResult[int]] | set[_LazyResult[int]]"),
    ],
)
def test_containers_take_lazy_values_inside(annotation, more):
    assert call(f"x: {annotation}").startswith(
        f"/, x: {annotation} | _LazyResult[{annotation}] | {more})"
    )


def test_containers_inside_of_containers_take_lazy_values_too():
    assert "list[list[_LazyResult[int]]]" not in call("x: list[int]")
    assert "_LazyResult[list[int]] | list[int | _LazyResult[int]]" in call("x: list[list[int]]")


def test_members_of_a_union_are_containers_as_well():
    assert "list[_LazyResult[int]]" in call("x: list[int] | None = None")
    assert "list[_LazyResult[int]]" in call("x: Optional[list[int]] = None")
    assert "list[_LazyResult[int]]" in call("x: 'list[int]'")


def test_an_alias_of_a_container_is_one():
    source = "Rows = list[int]\n@cs.task\ndef f(x: Rows) -> int: ..."
    assert "x: Rows | _LazyResult[Rows] | list[int | _LazyResult[int]]" in stub(source)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("a, /, b", "a: _Any, /, b: _Any"),
        ("a, /, b=1, *, c", "a: _Any, /, b: _Any = ..., *, c: _Any"),
        ("a=1, *rest, c, **more", "/, a: _Any = ..., *rest: _Any, c: _Any, **more: _Any"),
        ("*, c, d=1, e", "/, *, c: _Any, d: _Any = ..., e: _Any"),
    ],
)
def test_kinds_of_parameters_stay(written, expected):
    assert call(written) == f"{expected}) -> _LazyResult[int]"


def test_an_injected_parameter_may_be_left_out_and_so_may_the_following():
    shown = call("db: Annotated[Db, cs.inject(db)], n: int")
    assert "db: Db | _LazyResult[Db] = ..., n: int | _LazyResult[int] = ..." in shown


@pytest.mark.parametrize(
    ("returns", "value"),
    [
        ("cs.LazyResult[int]", "int"),
        ("int | cs.TailCall", "int"),
        ("int | cs.LazyResult[int] | cs.TailCall", "int"),
        ("Union[int, None]", "int | None"),
        ("MappedLazyResult[int]", "list[int]"),
        ("cs.TailCall", "_Never"),
    ],
)
def test_the_value_is_what_lazy_values_and_tail_calls_end_with(returns, value):
    assert call("x: int", returns).endswith(f"-> _LazyResult[{value}]")


def test_all_arguments_of_a_tail_call_may_be_left_out():
    source = "@cs.task\ndef f(a: int, *, b: str) -> int: ..."
    assert line(source, "def tail") == (
        "def tail(self, /, a: int | _LazyResult[int] = ..., *, "
        "b: str | _LazyResult[str] = ...) -> int: ..."
    )


def test_a_map_takes_parameters_by_name():
    shown = stub("@cs.task\ndef f(a, /, b: int, *rest, c: int = 1, **more: str) -> int: ...")
    maps = [text for text in shown.splitlines() if "def map(" in text]

    assert len(maps) == 5
    columns = (
        ", b: _Items[int | _LazyResult[int], int], c: _Items[int | _LazyResult[int], int] = ..."
    )
    more = ", **more: _Items[str | _LazyResult[str], str])"
    assert all(columns + more in text for text in maps)


def test_the_function_itself_stays_as_written():
    source = "@cs.task\nasync def f(a: int, b: str = '') -> str: ..."
    assert line(source, "async def func") == "async def func(a: int, b: str = ...) -> str: ..."


def test_a_method_is_called_without_its_object():
    shown = stub("class A:\n    @cs.task\n    def f(self, x: int) -> int: ...")

    assert "def __call__(self, /, x: int | _LazyResult[int])" in shown
    assert "def __get__(self, instance: None, owner: _Any = ...) -> _Task[..., int]" in shown


@pytest.mark.parametrize("decorator", ["cs.task", "cs.task(nout=2)", "task", "node", "cs.task()"])
def test_tasks_are_known_under_any_name(decorator):
    names = "from cascade import task\nfrom cascade.spec.task import task as node\n"
    source = f"import cascade as cs\n{names}@{decorator}\ndef f(): ..."

    assert tasks_in(source) == 1
    assert "class _Task_f(" in stub_of(source)


@pytest.mark.parametrize("decorator", ["other.task", "cs.resource", "cs.task.other"])
def test_other_decorators_make_no_tasks(decorator):
    assert tasks_in(f"import cascade as cs\n@{decorator}\ndef f(): ...") == 0


MODULE = '''
"""A module."""
from __future__ import annotations
import os.path
from typing import TYPE_CHECKING, overload
from enum import Enum
if TYPE_CHECKING:
    from decimal import Decimal
else:
    Decimal = float
try:
    import numpy as np
except ImportError:
    np = None
LIMIT: int = 3
total = sum([1, 2])
for i in range(3):
    total += i

class Kind(Enum):
    A = 1

class Agent(Kind, metaclass=type):
    name: str = "a"
    def __init__(self, size: int) -> None:
        self.size = size
        self.kept: list[int] = []
        self.other = size + 1
    @property
    def half(self) -> int:
        """Doc."""
        return self.size // 2

@overload
def pick(x: int) -> int: ...
@overload
def pick(x: str) -> str: ...
def pick(x):
    return x

async def rows(n: int = 3) -> AsyncIterator[int]:
    yield n

async def waited() -> int:
    def inner():
        yield 1
    return 1

@cs.task
def f(x: int) -> int:
    return x

if __name__ == "__main__":
    print(f(1))
'''


def test_the_rest_of_the_module_stays_without_bodies():
    assert stub(MODULE).split("class _Task_f")[0] == dedent(
        """\
        import os.path
        from typing import TYPE_CHECKING as TYPE_CHECKING, overload as overload
        from enum import Enum as Enum
        if TYPE_CHECKING:
            from decimal import Decimal as Decimal
        else:
            Decimal = float
        import numpy as np
        LIMIT: int = 3
        total = sum([1, 2])
        i: _Any
        class Kind(Enum):
            A = 1
        class Agent(Kind, metaclass=type):
            size: int
            kept: list[int]
            other: _Any
            name: str = 'a'
            def __init__(self, size: int) -> None: ...
            @property
            def half(self) -> int: ...
        @overload
        def pick(x: int) -> int: ...
        @overload
        def pick(x: str) -> str: ...
        def rows(n: int=3) -> AsyncIterator[int]: ...
        async def waited() -> int: ...
        """
    )
    assert "__main__" not in stub(MODULE)


@pytest.mark.skipif(
    sys.version_info < (3, 12), reason="needs Python 3.12, which brought the syntax"
)
def test_type_parameters_stay_with_the_methods():
    shown = stub("type Row = list[int]\n@cs.task\ndef f[T](x: T, y: Row) -> T: ...")

    assert "type Row = list[int]" in shown
    assert "def __call__[T](self, /, x: T | _LazyResult[T], y: Row | " in shown
    assert "list[_LazyResult[int]]" in shown
