"""In which thread commits are made, and what asks for them."""

import pytest

import cascade as cs
from cascade.adapters.stores import open_store


@cs.task
async def count_down(left: int) -> int:
    return 0 if left == 0 else count_down.tail(left - 1)


@pytest.mark.parametrize(("setting", "asks"), [("full", False), ("normal", True)])
async def test_only_a_store_that_need_not_wait_is_asked_to_commit_at_once(
    tmp_path, monkeypatch, setting, asks
):
    store = open_store(f"sqlite:///{tmp_path}/runs.db?synchronous={setting}")
    asked, commit = [], store.commit_at_once
    monkeypatch.setattr(
        store, "commit_at_once", lambda *args, **kw: asked.append(args) or commit(*args, **kw)
    )
    async with cs.Engine(store=store) as engine:
        assert await engine.run(count_down(3), run_id="a") == 0
    store.close()
    assert bool(asked) is asks
