"""Hosts on clusters, as far as Dask and Ray share them; the cluster here notes what it is given."""

import pickle
import threading

import pytest
from tests.remote_tasks import wait_until

from cascade.adapters.executors.cluster_host import ClusterHost
from cascade.adapters.executors.clusters import ClusterExecutor
from cascade.runtime.elsewhere.host_messages import DONE, READY, EndThere, NotReady, Told
from cascade.spec.errors import ExecutorError


class FakeHost(ClusterHost):
    cluster = "Fake"

    def __init__(self, told, starts):
        super().__init__(told)
        self.posted, self.dropped, self.starts = [], 0, starts

    def _start(self, entry, options):
        self.starts.pop(0)(self)

    def _post(self, messages):
        self.posted.append([pickle.loads(message) for message in messages])

    def _drop(self):
        self.dropped += 1

    def says(self, message):
        self.take("worker 1", pickle.dumps(message))


class FakeCluster(ClusterExecutor):
    def __init__(self, *starts):
        super().__init__(keep_above=None, seconds=0)
        self.starts, self.made, self.left = list(starts), [], 0

    def _host(self, number, told):
        self.made.append(FakeHost(told, self.starts))
        return self.made[-1]

    def _leave(self):
        self.left += 1

    def _forget(self, turns):
        pass

    def _count(self):
        pass

    def _send(self, turn, inputs):
        pytest.fail("no call was submitted")

    def _sent(self, turn):
        pytest.fail("no call was submitted")

    def _withdraw(self, turn):
        pytest.fail("no call was submitted")


def is_ready(host):
    host.says(READY)


def is_lost(host):
    host.lose("its node has died", with_worker=True)


def started(*starts):
    """An executor, its host, and what that has told."""
    told = []
    executor = FakeCluster(*starts)
    host = executor.start_host("entry", b"", lambda host, message: told.append((host, message)))
    return executor, host, told


def test_messages_are_posted_once_those_before_them_have_arrived():
    _, host, _ = started(is_ready)
    for n in range(3):
        host.send(EndThere(str(n), True))
    assert host.posted == [[EndThere("0", True)]]
    host._posted()
    host.send(DONE)
    assert host.posted[1:] == [[EndThere("1", True), EndThere("2", True)]]
    host._posted()
    host._posted()
    assert host.posted[2:] == [[DONE]]


def test_nothing_is_posted_before_it_is_ready_or_after_its_end():
    host = FakeHost(lambda *_: None, [])
    host.send(DONE)
    assert host.posted == []
    host.says(READY)
    assert host.posted == [[DONE]]
    host._posted()
    host.lose("over")
    host.send(DONE)
    assert host.posted == [[DONE]]


def test_its_end_is_told_once_after_its_messages():
    executor, host, told = started(is_ready)
    host.says(Told())
    host.lose("over")
    host.lose("again")
    assert told == [(host, Told()), (host, None)]
    assert host.dropped == 1
    assert executor._hosts == {}


def test_a_message_that_cannot_be_read_is_its_end():
    _, host, told = started(is_ready)
    host.take("worker 1", b"of another version")
    assert told == [(host, None)]


def test_a_message_that_does_not_arrive_is_its_end():
    """It would wait for the run that it was to begin."""
    _, host, told = started(is_ready)
    host.send(EndThere("one", True))
    host._posted(OSError("the network"))
    host.says(Told())
    host.send(DONE)
    assert told == [(host, None)]
    assert host.posted == [[EndThere("one", True)]]


def test_a_host_whose_worker_ends_before_it_is_ready_is_started_elsewhere():
    executor, host, _ = started(is_lost, is_lost, is_ready)
    assert executor.made[2] is host
    assert [*executor._hosts.values()] == [host]
    executor.made[0].lose("late news of the first one")
    assert [*executor._hosts.values()] == [host]


def test_it_is_given_up_after_some():
    executor = FakeCluster(*[is_lost] * 9)
    with pytest.raises(ExecutorError, match="Fake cannot host runs: its node has died"):
        executor.start_host("entry", b"", lambda *_: None)
    assert (len(executor.made), executor._hosts) == (3, {})


def test_one_that_cannot_make_its_engine_is_not_started_again():
    executor = FakeCluster(lambda host: host.says(NotReady("no store")), is_ready)
    with pytest.raises(ExecutorError, match="worker 1 cannot make its engine: no store"):
        executor.start_host("entry", b"", lambda *_: None)
    assert len(executor.made) == 1


def test_hosts_end_before_their_executor_leaves_the_cluster():
    """Also one that is about to begin."""
    executor, host, told = started(is_ready, lambda _: None)
    late = []
    starting = threading.Thread(
        target=lambda: late.append(executor.start_host("entry", b"", lambda *_: None))
    )
    starting.start()
    wait_until(lambda: len(executor.made) == 2)
    closing = threading.Thread(target=executor.shutdown)
    closing.start()
    wait_until(lambda: host.posted == [[DONE]])
    assert executor.left == 0
    host.lose("it has ended")
    executor.made[1].says(READY)
    wait_until(lambda: executor.made[1].posted == [[DONE]])
    executor.made[1].lose("it has ended")
    closing.join()
    starting.join()
    assert (executor.left, executor._hosts, late) == (1, {}, [executor.made[1]])
    assert told == [(host, None)]
    with pytest.raises(ExecutorError, match="starts no more hosts"):
        executor.start_host("entry", b"", lambda *_: None)


def test_an_executor_that_does_not_wait_gives_its_hosts_up():
    executor, host, told = started(is_ready)
    executor.shutdown(wait=False)
    assert (executor.left, executor._hosts, told) == (1, {}, [(host, None)])
