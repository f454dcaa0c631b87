"""Values are judged by their type, never by a method or attribute of their own."""

import pytest
from tests.sample_tasks import same

import cascade as cs


def refuse(_value):
    raise RuntimeError("working outside of a request")


#: Like a proxy to something that is not there: asking for its class raises.
Unbound = type("Unbound", (), {"__class__": property(refuse)})


@cs.task
def make():
    return Unbound()


@cs.task
async def make_async():
    return Unbound()


@cs.task
def kind(value):
    return type(value).__name__


@cs.task
def ask_again(n, value=None):
    return ask_again.tail(n - 1, Unbound()) if n else type(value).__name__


@cs.task
async def ask_again_async(n, value=None):
    return ask_again_async.tail(n - 1, Unbound()) if n else type(value).__name__


@cs.task
def goes_on():
    return same(make())


TARGETS = {
    "a call": lambda: kind(make()),
    "a coroutine": lambda: kind(make_async()),
    "a chain": lambda: kind(same(same(make()))),
    "two users": lambda: kind(same(value := make())).after(same(value)),
    "a retry": lambda: kind(make().with_retry(max_attempts=2)),
    "a lazy value in return": lambda: kind(goes_on()),
    "a loop": lambda: ask_again(3),
    "a loop of coroutines": lambda: ask_again_async(3),
    "an argument": lambda: kind(Unbound()),
    "a literal": lambda: kind(cs.literal(Unbound())),
}


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("fail_fast", [True, False])
@pytest.mark.parametrize("use_vm", [False, True], ids=["graph", "vm"])
async def test_a_value_may_refuse_to_tell_its_class(target, use_vm, fail_fast):
    async with cs.Engine() as engine:
        assert await engine.run(target(), use_vm=use_vm, fail_fast=fail_fast) == "Unbound"


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
async def test_the_same_holds_in_programs(target):
    async with cs.Engine() as engine:
        program = engine.compile(target())
        assert [await program.run() for _ in range(3)] == ["Unbound"] * 3


@pytest.mark.parametrize("use_vm", [False, True], ids=["graph", "vm"])
async def test_such_a_value_may_be_the_result(use_vm):
    async with cs.Engine() as engine:
        assert type(await engine.run(make(), use_vm=use_vm)) is Unbound
        (found,) = await engine.run([make()], use_vm=use_vm)
        assert type(found) is Unbound
