"""Every line here is right: what do checkers say? Never run; docs/typing.md has their answers."""

from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, assert_type

from definitions import (
    Agent,
    Db,
    adb,
    by_name,
    config,
    described,
    every,
    fetch,
    join,
    load,
    longest,
    named,
    outer,
    outer_awaited,
    outer_either,
    outer_lazy,
    pair,
    query,
    query_default,
    retried,
    spin,
    spin_or_tail,
    split,
    text,
    total,
)

import cascade as cs
from cascade.runtime.events import TaskFinished
from cascade.spec.lazy_types import MappedLazyResult

whole = total(load("x"))  # lazy argument
assert_type(whole, cs.LazyResult[float])  # result of a call
total(values=load("x"), scale=named(2))  # lazy, by name
total([1, 2], scale=named(2))  # value, and lazy by name
total([named(1), named(2)])  # lazy in a list
total([1, named(2), 3])  # values and lazy in a list
by_name({"a": named(1), "b": 2})  # lazy in a dict
pair((named(1), "b"))  # lazy in a tuple
longest()  # left out
longest([text("a"), "b"], least=named(1))  # lazy in a Sequence
every(1, named(2), third=text("a"))  # lazy in *args and **kwargs
every(*[named(1), named(2)])  # unpacked
join(fetch.map(n=[1, 2]))  # a map as the list
fetch.map(n=load("x"))  # map over a lazy list
fetch.map(n=[1, named(2)])  # map over a list with lazy items
total.map(values=cs.literal([1]), scale=[1.0, 2.0])  # literal in a map
assert_type(fetch.map(n=[1]), MappedLazyResult[str])  # result of a map
assert_type(fetch.map(n=[1], return_exceptions=True), MappedLazyResult[str | Exception])
assert_type(fetch.map(n=[1], skipped=None), MappedLazyResult[str | None])
assert_type(fetch.map(n=[1], catch=(OSError, described)), MappedLazyResult[str | bool])
chained = fetch(1).with_retry(3, on=ValueError).with_timeout(1).with_cache(cs.LRUCache())
assert_type(chained, cs.LazyResult[str])  # policies keep the type
named(config()["a"])  # item as an argument
assert_type(config()["a"], cs.LazyResult[int])  # item
assert_type(load("x")[named(0)], cs.LazyResult[int])  # item at a lazy index
assert_type(load("x")[1:], cs.LazyResult[list[int]])  # slice
named(named(1) + 1)  # sum as an argument
assert_type(named(1) + 1, cs.LazyResult[int])  # sum
assert_type(1 + named(1), cs.LazyResult[int])  # sum, lazy on the right
assert_type(named(1) + named(2), cs.LazyResult[int])  # sum of lazy values
assert_type(text("a") + "b", cs.LazyResult[str])  # sum of strings
assert_type(named(1) / 2, cs.LazyResult[float])  # quotient
assert_type(-named(1), cs.LazyResult[int])  # negation
assert_type(named(1) > 0, cs.LazyResult[bool])  # comparison
fetch(1).run_if(named(1) > 0)  # comparison as a condition
fetch(1).run_if(cs.eq(named(1), 1))  # cs.eq as a condition
fetch(cs.Param("n", type=int))  # parameter of the run
assert_type(cs.Param("a"), cs.Param[str])  # parameter without a type
assert_type(cs.Param("n", 3, int), cs.Param[int])  # parameter with a type
assert_type(cs.Param("n", None, int), cs.Param[int | None])  # parameter with another default
total(load(cs.Param("path")), cs.Param("scale", 1.0, float))  # parameters as arguments
assert_type(cs.run(whole), float)  # value of a run
assert_type(cs.run([named(1), named(2)]), list[int])  # run of a list
assert_type(cs.run((fetch(1), named(2))), tuple[str, int])  # run of a tuple
assert_type(cs.run({"x": fetch(1)}), dict[str, str])  # run of a dict
mixed: list[Any] = cs.run([fetch(1), named(2), 3])  # run of a list of several types
number, string = split(1)  # parts
named(number)  # part as an argument
query("select")  # injected, Annotated
query("select", Db())  # given in place of an injected one
query_default("select")  # injected, by default
assert_type(cs.inject(adb), Db)  # type of a resource
named(spin_or_tail(3))  # task that returns R | TailCall
assert_type(spin_or_tail(3), cs.LazyResult[int])  # its result
named(outer(1))  # task that returns a lazy value under -> int
named(outer_lazy(1))  # task that returns LazyResult[R]
assert_type(outer_lazy(1), cs.LazyResult[int])  # its result
assert_type(outer_either(1), cs.LazyResult[int])  # result of R | LazyResult[R] | TailCall
assert_type(outer_awaited(1), cs.LazyResult[int])  # result of a coroutine of LazyResult[R]
assert_type(spin.tail(1), int)  # tail call with arguments left out
assert_type(spin.tail(acc=named(1)), int)  # tail call with a lazy argument
assert_type(total.func([1], 2.0), float)  # the function itself
fetch_itself: Callable[[int], Coroutine[Any, Any, str]] = fetch.func  # the coroutine function
assert_type(Agent().step(1), cs.LazyResult[int])  # a method
Agent().step(named(1))  # a method, lazy argument
Agent.step(Agent(), 1)  # a method of the class
routed: cs.LazyResult[str] = cs.Router(selector=named(1), routes={1: fetch(1), 2: fetch(2)})
assert_type(cs.gather(named(1), named(2)), cs.LazyResult[list[int]])  # gather
gathered: cs.LazyResult[list[Any]] = cs.gather(fetch(1), named(2))  # gather of several types
assert_type(fetch(1).or_else(None), cs.LazyResult[str | None])  # fallback
several = [named(retried(named(i))) for i in range(3)]  # functions of lazy values
assert_type(cs.run(several), list[int])  # run of a variable
any_task: cs.Task[[int], int] = named  # a task by its type
loose_task: cs.Task[..., str] = fetch  # a task of any arguments
cs.Engine(executor=cs.ProcessExecutor(2))  # executor of other processes
cs.Engine(executor=cs.FuturesExecutor(ThreadPoolExecutor(2)))  # executor of a pool


async def main() -> None:
    async with cs.Engine(capacities={"gpu": 1}) as engine:
        assert_type(await engine.run(whole), float)  # engine.run
        assert_type(await engine.run([named(1)]), list[int])  # engine.run of a list
        program = engine.compile(whole)
        assert_type(await program.run(path="x"), float)  # program.run
        engine.bus.subscribe(TaskFinished, lambda event: print(event.task, event.duration))
        with cs.show_progress(engine.bus):
            pass
