"""The plugin for pytest, in test runs of its own."""

import subprocess
import sys
from importlib import import_module
from importlib.metadata import entry_points

import pytest

import cascade as cs
from cascade.command.main import main
from cascade.testing import Recording, VirtualEngine, override, record_run

pytest_plugins = ["pytester"]

INI = """
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
filterwarnings = error
"""

#: The project has no such line of its own.
OWN_SCOPE = ["-o", "asyncio_default_fixture_loop_scope=function"]

FLOWS = """
import asyncio
import cascade as cs

@cs.task
def load(day):
    raise ConnectionError("no network in tests")

@cs.task
async def total(numbers):
    await asyncio.sleep(3600)
    return sum(numbers)

report = total(load(cs.Param("day", "today")))
"""


@pytest.fixture(scope="module")
def everything_imported(tmp_path_factory):
    """pytester forgets what a test run has imported, and the next one would import it twice."""
    module = import_module("cascade.testing.plugin")
    target = cs.task(lambda n: n, name="one")(cs.Param("n", type=int))
    file = tmp_path_factory.mktemp("recording") / "one.json"
    with VirtualEngine() as engine, override("one", value=2):
        recording = record_run(target.with_retry(2), {"n": 1}, run=engine.run).recording
        recording.save(file)
        Recording.load(file).check(target, run=engine.run, use_vm=True)
    return module


@pytest.fixture
def run_tests(pytester, everything_imported):
    """``run_tests(source, *words)``: the outcome of a test run of its own."""
    installed = {point.value for point in entry_points(group="pytest11")}
    # Not in environments that were made before there was a plugin.
    more = [] if "cascade.testing.plugin" in installed else [everything_imported]
    pytester.makepyfile(flows=FLOWS)
    pytester.makeini(INI)
    others = ["-p", "no:randomly", "-p", "no:xdist", "-p", "no:benchmark", "-p", "no:cacheprovider"]

    def run(source, *words):
        if source:
            pytester.makepyfile(test_it=source)
        return pytester.runpytest_inprocess(*others, *words, plugins=more)

    return run


def test_the_fixtures_work_in_plain_and_async_tests_and_leak_nothing(run_tests):
    run_tests(
        """
        import cascade as cs, pytest
        from cascade.runtime.overriding import in_force
        from cascade.testing import in_virtual_time, override
        from flows import load, report

        @pytest.mark.parametrize("use_vm", [False, True])
        def test_an_engine(virtual_engine, override_tasks, use_vm):
            loaded = override_tasks(load, value=[1, 2])
            assert virtual_engine.run(report, {"day": "monday"}, use_vm=use_vm) == 3
            assert virtual_engine.time.elapsed == 3600
            virtual_engine.events.assert_order("load", "total")
            loaded.assert_called(1, day="monday")

        def test_nothing_is_left(virtual_engine):
            assert in_force.now is None
            with pytest.raises(ConnectionError):
                virtual_engine.run(report)

        def test_options(make_virtual_engine):
            def upper(call):
                return 2 * (yield)
            engine = make_virtual_engine(seed=3, middleware=[upper])
            with override("load", value=[1]):
                assert engine.run(report) == 4
            with pytest.raises(cs.errors.ArgumentError):
                make_virtual_engine(capacities=3)

        def test_virtual_time(virtual_time):
            with override(load, value=[1]):
                assert virtual_time.run(report) == 1
            assert virtual_time.elapsed == 3600

        async def test_a_coroutine_in_real_time(override_tasks, record_events):
            override_tasks(load, value=[1])
            override_tasks("total", function=sum)
            async with cs.Engine() as engine:
                events = record_events(engine)
                assert await engine.run(report) == 1
            events.assert_ran("total")

        @pytest.mark.anyio
        @pytest.mark.parametrize("anyio_backend", ["asyncio"])
        async def test_under_anyio(override_tasks, anyio_backend):
            override_tasks(load, value=[1])
            override_tasks("total", function=sum)
            assert await cs.run_async(report) == 1

        @in_virtual_time
        async def test_a_coroutine_in_virtual_time(virtual_time, override_tasks):
            override_tasks(load, value=[1, 1])
            assert await cs.run_async(report) == 2

        async def test_the_engine_is_not_for_a_running_loop(virtual_engine):
            with pytest.raises(cs.errors.RunError, match="right:  def test_it.virtual_engine"):
                virtual_engine.run(report)
        """
    ).assert_outcomes(passed=9)


def test_a_failing_test_leaves_nothing_in_force_either(run_tests):
    run_tests(
        """
        from cascade.runtime.overriding import in_force
        from flows import load

        def test_fails(override_tasks):
            override_tasks(load, value=1)
            raise ValueError

        def test_after():
            assert in_force.now is None
        """
    ).assert_outcomes(failed=1, passed=1)


RECORDED = """
    import pytest
    from cascade.testing import override
    from flows import report

    @pytest.mark.parametrize("n", [1, 2])
    def test_report(recorded_run, virtual_engine, n):
        with override("load", value={value}):
            assert recorded_run(report, {{"day": str(n)}}, run=virtual_engine.run)
"""


def test_a_run_is_recorded_and_later_changes_are_shown(run_tests, pytester):
    first = run_tests(RECORDED.format(value="[n]"))
    first.assert_outcomes(failed=2)
    first.stdout.fnmatch_lines(["*there is no recording *test_report-1.json; write it: pytest *"])

    run_tests(None, "--record-runs").assert_outcomes(passed=2)
    files = sorted(file.name for file in (pytester.path / "recordings" / "test_it").iterdir())
    assert files == ["test_report-1.json", "test_report-2.json"]

    run_tests(None).assert_outcomes(passed=2)
    changed = run_tests(RECORDED.format(value="[1]"))
    changed.assert_outcomes(passed=1, failed=1)
    changed.stdout.fnmatch_lines(
        [
            "the run of test_report?2? has changed since it was recorded:",
            "-load('2') → ?2?",
            "+load('2') → ?1?",
            "if that is right: pytest --record-runs",
        ]
    )


def test_a_recorded_task_is_replayed(run_tests, pytester):
    source = """
        import pytest
        from cascade.testing import override
        from flows import load, report

        def test_one(recorded_run, virtual_engine, request):
            if request.config.getoption("record_runs"):
                with override(load, value=[4, 5]):
                    recorded_run(report, name="report", run=virtual_engine.run)
            else:
                run = virtual_engine.run
                assert recorded_run(report, name="report", run=run, replay=["load"]) == 9
    """
    run_tests(source, "--record-runs").assert_outcomes(passed=1)
    run_tests(None).assert_outcomes(passed=1)


SIGNALLED = """
    import signal
    import cascade as cs
    from flows import total

    @cs.task(mode="inline")
    def numbers(number):
        signal.raise_signal(number)
        return [1]

    def test_is_ended():
        cs.run(total(numbers(signal.{name})))

    def test_is_not_begun():
        raise AssertionError
"""

EXAMPLES = """
    def doubled(n):
        '''
        >>> from test_it import test_is_ended
        >>> test_is_ended()
        '''

    def tripled(n):
        '''
        >>> 1 / 0
        '''
"""


@pytest.mark.posix
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_that_ends_a_run_ends_the_tests(run_tests, name):
    done = run_tests(SIGNALLED.format(name=name))
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines([f"*{name} has ended test_it.py::test_is_ended*"])
    assert done.ret is pytest.ExitCode.INTERRUPTED


@pytest.mark.posix
def test_so_does_one_in_an_example_of_a_docstring(run_tests, pytester):
    pytester.makepyfile(doubling=EXAMPLES, test_it=SIGNALLED.format(name="SIGTERM"))
    done = run_tests(None, "--doctest-modules", "doubling.py")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*SIGTERM has ended doubling.py::doubling.doubled*"])


def test_the_tests_of_a_new_project_pass(run_tests, pytester):
    assert main(["init", "weather"]) == 0
    run_tests(None, "weather", *OWN_SCOPE).assert_outcomes(passed=4)


def test_it_imports_nothing_of_cascade_before_a_test_needs_it():
    code = (
        "import sys, pytest\n"
        "before = set(sys.modules)\n"
        "import cascade.testing.plugin\n"
        "print(sorted(set(sys.modules) - before))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert eval(done.stdout) == ["cascade", "cascade.testing", "cascade.testing.plugin"]
