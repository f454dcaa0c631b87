"""Tasks as methods, and lazy defaults, in runs: both paths, programs, blueprints, caches, pins."""

import pytest

import cascade as cs
from cascade.graph.compiler import BlueprintBuilder


class Counter:
    def __init__(self, step):
        self.step = step
        self.calls = []

    @cs.task
    def add(self, n):
        self.calls.append(n)
        return n + self.step

    @cs.task
    def down(self, n, total=0):
        return self.down.tail(n - 1, total + self.step) if n else total

    @cs.task
    async def adown(self, n, total=0):
        return self.adown.tail(n - 1, total + self.step) if n else total

    @cs.task
    def ping(self, n):
        return self.pong.tail(n - 1) if n else "ping"

    @cs.task
    def pong(self, n):
        return self.ping.tail(n - 1) if n else "pong"

    @cs.task
    def again(self, n):
        return self.add(self.add(n))

    @cs.task
    def itself(self):
        return self.add


@pytest.fixture
def counter():
    return Counter(10)


async def test_calls_and_maps(run, counter):
    assert await run(counter.add(counter.add(1))) == 21
    assert await run(counter.add.map(n=[1, 2])) == [11, 12]
    assert await run(counter.again(5)) == 25


@pytest.mark.parametrize("tier", ["auto", "generated", "interpreted"])
@pytest.mark.parametrize("name", ["down", "adown"])
async def test_loops(counter, name, tier, use_vm):
    async with cs.Engine(tier=tier) as engine:
        assert await engine.run(getattr(counter, name)(1000), use_vm=use_vm) == 10_000


async def test_loops_of_two_methods(run, counter):
    assert await run(counter.ping(1001)) == "pong"


async def test_programs(engine, counter):
    program = engine.compile(counter.add(cs.Param("n", type=int)))

    assert await program.run(n=1) == 11
    assert await program.run(n=2) == 12


async def test_a_blueprint_of_a_method_has_its_object(engine, counter, use_vm):
    engine.register_blueprint("add", BlueprintBuilder().build(counter.add(0)))

    @cs.task
    def first(other):
        return cs.TailCall([other, 5], target_blueprint_id="add")

    assert await engine.run(first(cs.literal(counter)), use_vm=use_vm) == 15


async def test_the_object_is_part_of_the_key_of_a_cache(run, counter):
    cache, other = cs.LRUCache(), Counter(20)
    calls = [c.add(1).with_cache(cache) for c in (counter, counter, other)]

    assert await run(calls) == [11, 11, 21]
    assert counter.calls == [1]


async def test_a_method_that_returns_another_without_calling_it_fails(run, counter):
    with pytest.raises(
        cs.errors.ArgumentError,
        match=r"returned the task 'add' at .*test_methods.py:[0-9]+ without",
    ):
        await run(counter.itself())


class Holder:
    """A method that may return a lazy value of its object."""

    def __init__(self, lazy):
        self.lazy = lazy

    @cs.task
    def give(self, _=None):
        return self.lazy


async def test_lazy_values_of_the_object_are_kept_if_they_are_told(run, counter):
    """M21: an object among the arguments is not searched, unlike one that a function refers to."""
    shared = counter.add(1)
    holder = Holder(shared.keep())

    assert await run(holder.give(counter.add(shared))) == 11
    assert counter.calls.count(1) == 1


async def test_lazy_values_that_the_function_of_a_task_reaches_are_kept(run, counter):
    """M21: through the bound task to its object."""
    shared = counter.add(1)
    give = Holder(shared).give

    @cs.task
    def late(_):
        return give()

    assert await run(late(counter.add(shared))) == 11
    assert counter.calls.count(1) == 1


# -- lazy defaults --------------------------------------------------------------------------------


class Source:
    """A lazy value that counts its calls, and tasks with it as a default."""

    def __init__(self):
        self.calls = 0
        late = cs.task(name="late")(self.compute)()
        box = (late, 2)

        @cs.task
        def work(a, late=late, *, box=box):
            return a, late, box

        @cs.task
        async def awork(a, late=late):
            return a, late

        @cs.task
        def switch(n):
            return work.tail(n)

        @cs.task
        def loop(n, late=late):
            return loop.tail(n - 1) if n else late

        self.work, self.awork, self.switch, self.loop = work, awork, switch, loop

    def compute(self):
        self.calls += 1
        return "late"


@pytest.fixture
def source():
    return Source()


async def test_a_lazy_default_is_computed_once_for_all_calls(run, source):
    calls = [source.work(1), source.awork(2), source.work(3, late="mine", box=4)]

    assert await run(calls) == [(1, "late", ("late", 2)), (2, "late"), (3, "mine", 4)]
    assert source.calls == 1


async def test_a_lazy_default_that_no_call_leaves_out_is_not_computed(run, source):
    assert await run(source.awork(1, late=2)) == (1, 2)
    assert source.calls == 0


async def test_items_of_maps_have_lazy_defaults(run, source):
    assert await run(source.awork.map(a=[1, 2])) == [(1, "late"), (2, "late")]
    assert source.calls == 1


async def test_a_tail_call_to_another_task_has_its_lazy_defaults(run, source):
    assert await run(source.switch(1)) == (1, "late", ("late", 2))
    assert await run(source.switch.map(n=[1, 2])) == [(n, "late", ("late", 2)) for n in (1, 2)]


async def test_a_loop_keeps_the_value_of_a_lazy_default(run, source):
    assert await run(source.loop(50)) == "late"
    assert source.calls == 1


async def test_many_tail_calls_between_tasks_with_lazy_defaults(run):
    """No tier of compiled loops hands over the lazy value itself."""
    late = cs.task(lambda: "late")()

    @cs.task
    def ping(n, seen=0, late=late):
        assert late == "late"
        return pong.tail(n - 1, seen + 1) if n else seen

    @cs.task
    def pong(n, seen, late=late):
        assert late == "late"
        return ping.tail(n - 1, seen + 1) if n else seen

    assert await run(ping(300)) == 300


async def test_a_program_computes_a_lazy_default_in_each_run(engine, source):
    program = engine.compile(source.work(cs.Param("n", type=int)))

    assert await program.run(n=1) == (1, "late", ("late", 2))
    assert await program.run(n=2) == (2, "late", ("late", 2))
    assert source.calls == 2


@pytest.mark.parametrize("build", ["of a call", "of the task"])
async def test_a_blueprint_has_lazy_defaults(engine, source, use_vm, build):
    builder = BlueprintBuilder()
    blueprint = builder.build(source.work(0)) if build == "of a call" else None
    engine.register_blueprint("work", blueprint or builder.build_task(source.work))

    @cs.task
    def first():
        return cs.TailCall([5], target_blueprint_id="work")

    assert await engine.run(first(), use_vm=use_vm) == (5, "late", ("late", 2))


async def test_a_skipped_default_skips_the_call(run, source):
    late = cs.task(lambda: 1)().run_if(cs.task(lambda: False)())

    @cs.task
    def work(late=late):
        return late

    with pytest.raises(cs.errors.DependencyMissingError):
        await run(work())


def test_a_lazy_default_of_a_provider_is_refused():
    late = cs.task(lambda: 1)()
    with pytest.raises(cs.errors.DefinitionError, match="which only a task can be given"):

        @cs.resource
        def database(late=late):
            yield late
