"""The benchmarks of many runs on one engine compute correctly; no test looks at a time."""

import pytest
from tests.observatory.reports import check_printed, check_suite, report_of

from cascade.observatory.benchmarks import fleets, small_runs
from cascade.observatory.benchmarks.contenders import Cascade

WAYS = [small_runs.GRAPH, small_runs.INLINE, small_runs.PROGRAM_NAME, small_runs.BY_HAND]


@pytest.mark.parametrize("make", [small_runs._plain_ways, small_runs._mixed_ways])
def test_every_way_to_run_three_nodes_gives_their_sum(make):
    with Cascade() as cascade:
        ways = make(cascade)
        assert list(ways) == WAYS
        for once in ways.values():
            assert small_runs._awaiting(cascade, once, 2)() == 3


def test_every_way_to_serve_a_request_answers_it():
    with Cascade() as cascade:
        ways = small_runs._request_ways(cascade)
        assert list(ways) == WAYS
        for once in ways.values():
            taken = []
            assert small_runs._serving(cascade, once, taken, clients=4, each=3)() == 12
            assert len(taken) == 12


def test_a_wrong_answer_is_not_counted():
    async def wrong(request):
        return request

    with Cascade() as cascade:
        assert small_runs._serving(cascade, wrong, [], clients=2, each=2)() == 0


def test_so_many_requests_are_in_flight():
    """Every client has one under way, until it has made its last."""
    flying, most = 0, 0

    async def request(number):
        nonlocal flying, most
        flying += 1
        most = max(most, flying)
        await small_runs.fetch(number)
        flying -= 1
        return number + 1

    with Cascade() as cascade:
        assert small_runs._serving(cascade, request, [], clients=7, each=2)() == 14
    assert (most, flying) == (7, 0)


def test_a_fleet_makes_as_many_agents_as_it_says():
    steps = []

    class Loop:
        def wait_for(self, work):
            with fleets.EventLoop() as loop:
                return loop.wait_for(work)

    async def agent(left):
        steps.append(left)
        return 0

    assert fleets._running((Loop(), agent), count=5, steps=3, times=2)() == 0
    assert steps == [3] * 10


# -- the program ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fleets, "_STEPS", 10_000)
        return report_of(small_runs.PROGRAM, tmp_path_factory.mktemp("report"), "--quick")


@pytest.mark.timeout(180)  # where the machine is busy; else it takes some seconds
def test_the_benchmark_of_services_writes_its_report(report):
    written = report.written
    titles = {"3 plain", "3 mixed", "service"}
    titles |= {f"{what}, {count} at once" for what in ("agents", "starts") for count in (1, 100)}
    assert titles <= set(written["measurements"])
    assert written["latency_ms"].keys() == set(WAYS)
    assert all(set(one) == {"p50", "p99", "max"} for one in written["latency_ms"].values())
    assert written["memory_bytes_per_agent"].keys() == {"cascade", "by hand"}
    check_printed(report)


@pytest.mark.timeout(180)
def test_a_step_of_an_agent_is_what_long_lives_have_more(report):
    measured = report.written["measurements"]["agents, 100 at once"]
    assert [one["name"] for one in measured["contenders"]] == ["cascade", "by hand"]
    more = measured["contenders"][0]["operations"]
    assert more % 100 == 0
    assert more >= 100 * 20


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", ["small", "fleets"])
def test_the_report_has_each_suite_and_its_charts(report, name):
    check_suite(report, name)
