"""examples/service.py: small runs for requests, durable runs that outlive the server."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TestClient = pytest.importorskip(
    "fastapi.testclient", reason="needs fastapi and httpx: pip install fastapi httpx"
).TestClient


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Starts the server, with the store of the one before."""
    from examples import service

    monkeypatch.setenv("TRIPS_STORE", f"sqlite:///{tmp_path}/trips.db?synchronous=normal")
    return lambda: TestClient(service.app)


def status(server: Any, wanted: str) -> str:
    """The status of trip 7, once it is the wanted one or ten seconds are over."""
    until = time.monotonic() + 10
    while True:
        found = str(server.get("/trips/7").json()["status"])
        if found == wanted or time.monotonic() > until:
            return found
        time.sleep(0.02)  # as a client polls


def test_a_request_gets_the_value_of_its_run(client: Callable[[], Any]) -> None:
    with client() as server:
        assert server.get("/price", params={"km": 12}).json() == 22.0
        assert server.get("/price", params={"km": "far"}).status_code == 422


def test_a_trip_that_waits_outlives_the_server(client: Callable[[], Any]) -> None:
    with client() as server:
        assert server.post("/trips/7", json={"km": 12}).json() == {"run": "trip-7"}
        assert server.post("/trips/7", json={"km": 12}).status_code == 202
        assert status(server, "suspended") == "suspended"
    with client() as server:
        assert server.post("/trips/7/payment").status_code == 204
        assert status(server, "succeeded") == "succeeded"
        assert server.post("/trips/7/payment").status_code == 409


def test_trips_that_are_not_there_are_not_found(client: Callable[[], Any]) -> None:
    with client() as server:
        assert server.get("/trips/8").status_code == 404
        assert server.post("/trips/8/payment").status_code == 404
