"""The public names in the view of checkers. Checked by mypy (``hatch run types:check``), never run.

An ``ignore`` that is not needed is an error, so that each also says: this is refused.
"""

from collections.abc import AsyncIterator, Hashable, Iterator
from typing import Annotated, Any, assert_type

from cascade.spec.blueprint import TailCall, literal
from cascade.spec.lazy_types import LazyResult, MappedLazyResult, gather
from cascade.spec.operators import eq
from cascade.spec.overrides import override_resource
from cascade.spec.params import Env, Param
from cascade.spec.resource import ResourceDefinition, inject, resource
from cascade.spec.retry import Retry
from cascade.spec.routing import Router
from cascade.spec.task import Task, task


@task
def add(a: int, b: int = 2) -> int:
    return a + b


@task
async def fetch(url: str) -> bytes:
    return url.encode()


@task(name="renamed")
def named(text: str) -> list[str]:
    return [text]


class Kept:
    """A cache of the user's."""

    def get(self, key: Hashable) -> tuple[bool, Any]:
        return False, None

    def put(self, key: Hashable, value: Any, ttl: float | None = None) -> None: ...


@task(name="renamed")
async def named_async(text: str) -> list[str]:
    return [text]


@task(retry=3, timeout=1, cache=Kept(), capacities={"gpu": 1}, priority=1)
def declared(text: str) -> list[str]:
    return [text]


@task(retry=Retry(3, on=OSError))
async def declared_async(text: str) -> list[str]:
    return [text]


@resource
def connection() -> Iterator[complex]:
    yield 1j


@resource(scope="task", thread_bound=True)
def file() -> Iterator[float]:
    yield 1.0


@resource
async def session() -> AsyncIterator[str]:
    yield ""


@task
def query(sql: str, db: complex = inject(connection)) -> float:
    return db.real


@task
def annotated(sql: str, db: Annotated[complex, inject(connection)]) -> float:
    return db.real


def fake() -> Iterator[complex]:
    yield 2j


@task
def described(error: OSError) -> str:
    return str(error)


@task
def countdown(n: int) -> str:
    return countdown.tail(n - 1) if n else "liftoff"


def a_task_keeps_parameters_and_result() -> None:
    assert_type(add, Task[[int, int], int])  # type: ignore[assert-type]  # names and defaults too
    assert_type(add(1, 2), LazyResult[int])
    assert_type(add(1), LazyResult[int])
    assert_type(add(b=1, a=2), LazyResult[int])


def the_result_of_a_coroutine_function_is_what_it_awaits_to() -> None:
    assert_type(fetch("x"), LazyResult[bytes])
    assert_type(named_async("x"), LazyResult[list[str]])


def declared_policies_change_no_type() -> None:
    assert_type(declared("x"), LazyResult[list[str]])
    assert_type(declared_async("x").with_retry(None).with_cache(None), LazyResult[list[str]])
    assert_type(declared("x").with_retry(Retry(2)).with_timeout(None), LazyResult[list[str]])
    task(retries=3)  # type: ignore[call-overload]


def a_name_changes_no_type() -> None:
    assert_type(named("x"), LazyResult[list[str]])


def lazy_arguments_fit_where_values_do() -> None:
    assert_type(add(add(1), b=add(2)), LazyResult[int])
    assert_type(add(literal(3)), LazyResult[int])


def a_lazy_value_is_not_its_value() -> None:
    value: int = add(1)  # type: ignore[assignment]
    assert_type(value, int)


async def a_lazy_value_is_none_of_what_its_value_may_be() -> None:
    int(add(1))  # type: ignore[call-overload]
    float(add(1))  # type: ignore[arg-type]
    "abc"[add(1)]  # type: ignore[index]
    add(1)()  # type: ignore[operator]
    add(1).real  # type: ignore[attr-defined]
    await add(1)  # type: ignore[misc]
    with add(1):  # type: ignore[attr-defined]
        pass


def a_map_is_a_lazy_list() -> None:
    assert_type(add.map(a=[1, 2]), MappedLazyResult[int])
    whole: LazyResult[list[int]] = add.map(a=[1, 2])
    assert_type(fetch.map(url=whole), MappedLazyResult[bytes])
    add.map([1, 2])  # type: ignore[call-overload]
    assert_type(add.map(a=[1, 2], window=3), MappedLazyResult[int])
    assert_type(add.map(a=[1, 2], fold=add, initial=0), LazyResult[int])


def policies_keep_the_type() -> None:
    assert_type(add(1).run_if(eq(fetch("x"), b"")).after(add(2)), LazyResult[int])
    assert_type(add.map(a=[1]).after(add(2)), MappedLazyResult[int])
    add(1).run_if(True)  # type: ignore[arg-type]
    add(1).after([add(2)])  # type: ignore[arg-type]


def a_lazy_value_of_a_narrower_type_fits() -> None:
    wider: LazyResult[object] = add(1)
    also: LazyResult[list[int]] = add.map(a=[1])
    assert_type((wider, also), tuple[LazyResult[object], LazyResult[list[int]]])


def tail_is_typed_as_the_result() -> None:
    assert_type(add.tail(b=3), int)
    assert_type(fetch.tail(), bytes)
    assert_type(countdown.tail(1), str)
    assert_type(TailCall(kwargs={"n": 1}).target_blueprint_id, str | None)


def an_injected_parameter_is_of_the_resources_type() -> None:
    assert_type(connection, ResourceDefinition[complex])
    assert_type(file, ResourceDefinition[float])
    assert_type(session, ResourceDefinition[str])
    assert_type(inject(connection), complex)
    assert_type(inject("by name"), Any)
    wrong: str = inject(connection)  # type: ignore[assignment]
    assert_type((query("select 1"), wrong), tuple[LazyResult[float], str])


def an_annotated_parameter_may_be_left_out_or_given() -> None:
    assert_type(annotated("select 1"), LazyResult[float])
    assert_type(annotated("select 1", 1j), LazyResult[float])


def an_override_gives_what_the_resource_gives() -> None:
    with override_resource(connection, fake), override_resource("by name", session):
        pass
    override_resource(connection, session)  # type: ignore[arg-type]
    override_resource(file, fake)  # type: ignore[arg-type]


def sources_are_lazy_values_of_their_type() -> None:
    assert_type(Param("n", default=3, type=int), Param[int])
    assert_type(Param("n", type=int).read({}), int)
    assert_type(Env("HOME").read({}), str)
    lazy: LazyResult[int] = Param("n", type=int)
    assert_type(add(lazy), LazyResult[int])


def a_router_is_of_the_type_of_its_routes() -> None:
    assert_type(Router(selector=fetch("x"), routes={1: add(1), 2: add(2)}), Router[int])
    fits: LazyResult[int] = Router(selector="plain", routes={"plain": 5, "lazy": add(1)})
    assert_type(fits, LazyResult[int])


def a_fallback_adds_its_type() -> None:
    assert_type(add(1).or_else(None), LazyResult[int | None])
    assert_type(add(1).or_else(fetch("x")), LazyResult[int | bytes])
    assert_type(add(1).catch(ValueError, None), LazyResult[int | None])
    assert_type(add(1).catch((ValueError, OSError), fetch("x")), LazyResult[int | bytes])
    assert_type(add(1).catch(OSError, described), LazyResult[int | str])
    assert_type(add(1).catch(OSError), LazyResult[int | OSError])
    add(1).catch("OSError", 0)  # type: ignore[call-overload]
    gather(add(1), return_exceptions=True, skipped=None, catch=(OSError, described))
    add.map(a=[1], skipped=None, catch=((OSError, ValueError), 0))


def a_gather_is_a_lazy_list() -> None:
    assert_type(gather(add(1), 2), LazyResult[list[Any]])
    assert_type(eq(add(1), 2), LazyResult[bool])


def literal_is_typed_as_its_value() -> None:
    assert_type(literal([1]), list[int])
