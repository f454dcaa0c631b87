"""BiasedLock: a lock that one thread may own, so that it costs that thread next to nothing."""

import random
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from cascade.runtime.graph_path import biased_lock as module
from cascade.runtime.graph_path.biased_lock import BiasedLock


@pytest.fixture
def lock():
    """A lock that this thread owns."""
    lock = BiasedLock()
    lock.give()
    lock.owner = threading.get_ident()
    return lock


@contextmanager
def running(*bodies):
    """Each body in a thread of its own; when the block ends they have ended, without error."""
    errors = []

    def run(body):
        try:
            body()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(body,), daemon=True) for body in bodies]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive(), "it waits for ever"
    assert not errors


@contextmanager
def owned_inline(lock):
    """The owner's way in, written out as the fast lane has it."""
    me = threading.get_ident()
    if not lock.shared:
        lock.inside = me
        try:
            if not lock.shared:
                yield
                return
        finally:
            lock.inside = 0
    with lock:
        yield


WAYS_IN = pytest.mark.parametrize("enter", [lambda lock: lock, owned_inline], ids=["with", "own"])


def until(condition):
    while not condition():
        pass


# -- one owner --------------------------------------------------------------------------------


@WAYS_IN
def test_the_owner_enters_and_leaves_without_ending_its_ownership(lock, enter):
    with enter(lock):
        assert lock.inside == threading.get_ident()
    assert lock.inside == 0
    assert not lock.shared


def test_it_starts_without_an_owner():
    lock = BiasedLock()
    assert lock.shared
    with lock:
        assert lock.inside == 0


def test_the_owner_may_enter_again_while_it_is_inside(lock):
    for _ in range(3):
        with lock, lock, lock:
            with lock:
                pass
            assert lock.inside == threading.get_ident()
        assert lock.inside == 0


def test_the_lock_is_reentrant():
    lock = BiasedLock()
    entered = threading.Event()
    with lock, lock:
        with lock:
            pass
        with running(lambda: lock.__enter__() or entered.set() or lock.__exit__()):
            assert not entered.wait(0)
            lock.__exit__()
            assert not entered.wait(0)
            lock.__exit__()
            assert entered.wait(20)
            lock.__enter__()
            lock.__enter__()


def test_an_error_inside_does_not_keep_it_closed(lock):
    with pytest.raises(ValueError, match="inside"), lock, lock:
        raise ValueError("inside")
    assert lock.inside == 0
    entered = threading.Event()

    def other():
        with lock:
            entered.set()

    with running(other):
        assert entered.wait(20)


# -- an owner and others ----------------------------------------------------------------------


@WAYS_IN
def test_another_thread_waits_until_the_owner_is_outside(lock, enter):
    inside, entered = threading.Event(), threading.Event()

    def other():
        assert inside.wait(20)
        with lock:
            entered.set()

    with running(other):
        with enter(lock):
            inside.set()
            until(lambda: lock.shared)  # the other one has said that it is coming
            assert not entered.is_set()
        assert entered.wait(20)


@WAYS_IN
def test_the_owner_waits_until_another_thread_is_outside(lock, enter):
    inside, leave = threading.Event(), threading.Event()
    log = []

    def other():
        with lock:
            inside.set()
            assert leave.wait(20)
            log.append("other leaves")

    def let_it_go():
        assert inside.wait(20)
        leave.set()

    with running(other, let_it_go):
        assert inside.wait(20)
        with enter(lock):
            log.append("owner is inside")
    assert log == ["other leaves", "owner is inside"]


def test_the_owner_that_is_asked_to_share_may_still_enter_again_while_it_is_inside(lock):
    inside = threading.Event()

    def other():
        assert inside.wait(20)
        with lock:
            pass

    with running(other), lock:
        inside.set()
        until(lambda: lock.shared)
        with lock:
            assert lock.inside == threading.get_ident()
        assert lock.inside == threading.get_ident()


def test_after_another_thread_was_inside_all_take_the_lock(lock):
    def other():
        with lock:
            pass

    with running(other):
        pass
    assert lock.shared
    with lock:
        assert lock.inside == 0


def test_sharing_waits_for_the_owner_and_not_for_itself(lock):
    inside, shared = threading.Event(), threading.Event()

    def other():
        assert inside.wait(20)
        lock.share()
        shared.set()

    with lock:
        lock.share()
    lock.give()
    lock.owner = threading.get_ident()
    with running(other):
        with lock:
            inside.set()
            until(lambda: lock.shared)
            assert not shared.is_set()
        assert shared.wait(20)


def test_it_can_be_given_to_the_next_owner(lock):
    lock.share()
    lock.give()

    def next_owner():
        lock.owner = threading.get_ident()
        with lock:
            assert lock.inside == threading.get_ident()

    with running(next_owner):
        pass
    assert not lock.shared
    with lock:  # the one that owned it before is one of many now
        assert lock.shared


def test_it_is_not_given_while_somebody_has_the_lock():
    """A thread that looks from outside, as ``Engine.waiting`` does, may come at any time."""
    lock = BiasedLock()
    inside, leave, given = threading.Event(), threading.Event(), threading.Event()
    log = []

    def looker():
        with lock:
            inside.set()
            assert leave.wait(20)
            log.append("looker leaves")

    def owner():
        assert inside.wait(20)
        given.set()
        lock.give()
        lock.owner = threading.get_ident()
        with lock:
            log.append("owner is inside")

    with running(looker, owner):
        assert given.wait(20)
        leave.set()
    assert log == ["looker leaves", "owner is inside"]


def test_free_threaded_builds_have_no_owner(monkeypatch):
    """Without the interpreter's lock, stores of the owner are not seen in time."""
    monkeypatch.setattr(module, "_ONE_AT_A_TIME", False)
    lock = BiasedLock()
    lock.give()
    assert lock.shared


# -- under stress -----------------------------------------------------------------------------


class Section:
    """A critical section that notices when two threads are inside."""

    def __init__(self):
        self.count = self.inside = 0

    def enter(self):
        assert self.inside == 0
        self.inside += 1
        before = self.count
        self.count = before + 1
        self.inside -= 1


@pytest.fixture(params=range(4))
def shuffled(request):
    """Threads may take turns at every line of the lock and of this file, in seeded order."""
    order = random.Random(request.param)

    def at_line(frame, event, _arg):
        if event == "line" and order.random() < 0.5:
            time.sleep(0)
        return at_line

    def at_call(frame, _event, _arg):
        return at_line if frame.f_code.co_filename in (module.__file__, __file__) else None

    before = threading.gettrace()
    threading.settrace(at_call)
    yield
    threading.settrace(before)


def own(lock):
    lock.give()
    lock.owner = threading.get_ident()


def test_no_two_threads_are_ever_inside(shuffled):
    """Owners come and go, and others enter and share at any time."""
    rounds, entries = 8, 8
    lock, section = BiasedLock(), Section()
    meet = threading.Barrier(3)

    def owner():
        for _ in range(rounds):
            own(lock)
            meet.wait(20)
            for entry in range(entries):
                with owned_inline(lock) if entry % 2 else lock:
                    section.enter()
            meet.wait(20)

    def other():
        for n in range(rounds):
            meet.wait(20)
            for _ in range(entries):
                if n % 3 == 2:
                    lock.share()
                with lock, lock:
                    section.enter()
            meet.wait(20)

    with running(owner, other, other):
        pass
    assert section.count == rounds * entries * 3


def test_it_is_given_away_while_others_come_and_go(shuffled):
    """No thread waits for them before that."""
    rounds, entries = 40, 3
    lock, section = BiasedLock(), Section()
    over = threading.Event()
    looked = 0

    def owner():
        for _ in range(rounds):
            own(lock)
            for entry in range(entries):
                with owned_inline(lock) if entry % 2 else lock:
                    section.enter()
        over.set()

    def looker():
        nonlocal looked
        while not over.is_set():
            with lock:
                section.enter()
                looked += 1

    with running(owner, looker):
        pass
    assert section.count == rounds * entries + looked


def test_no_change_is_lost_at_full_speed():
    """As ``shuffled``, but as real runs are, with the turns made as short as can be."""
    entries = 20_000
    lock, section = BiasedLock(), Section()
    begin = threading.Barrier(2)

    def owner():
        own(lock)
        begin.wait(20)
        for entry in range(entries):
            with owned_inline(lock) if entry % 2 else lock:
                section.enter()

    def other():
        begin.wait(20)
        for _ in range(entries):
            with lock:
                section.enter()

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with running(owner, other):
            pass
    finally:
        sys.setswitchinterval(before)
    assert section.count == 2 * entries
