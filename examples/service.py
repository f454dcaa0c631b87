"""A web service: small runs for requests, and durable runs that outlive the server.

    pip install fastapi uvicorn
    uvicorn --app-dir examples service:app

    curl localhost:8000/price?km=12
    curl -X POST localhost:8000/trips/7 -H 'content-type: application/json' -d '{"km": 12}'
    curl -X POST localhost:8000/trips/7/payment
    curl localhost:8000/trips/7

Stop the server at any moment and start it again: it goes on with the trips that it has not ended.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel

import cascade as cs
from cascade.adapters.stores import open_store


@cs.task
def distance_price(km: float) -> float:
    return 1.5 * km


@cs.task
def price(base: float, by_distance: float) -> float:
    return round(base + by_distance, 2)


@cs.task(retry=cs.Retry(5, delay=0.5, backoff=2, on=ConnectionError))
async def find_driver(trip: int) -> str:
    return f"driver {trip % 10}"


@cs.task
async def confirm(driver: str, amount: float, payment: Any) -> str:
    return f"{driver} comes for {amount}" if payment else "cancelled, as nobody paid"


@cs.task
def trip(number: int, km: float) -> Any:
    """A durable run: it may wait a day for the payment, and holds nothing meanwhile."""
    payment = cs.wait_for("payment", timeout=86_400, default=None)
    return confirm(find_driver(number), price(4.0, distance_price(km)), payment)


class Order(BaseModel):
    km: float


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    store = open_store(os.environ.get("TRIPS_STORE", "sqlite:///trips.db"))
    stop = asyncio.Event()
    async with cs.Engine(store=store) as engine:
        km = cs.Param("km", type=float)
        app.state.program = engine.compile(price(4.0, distance_price(km)))
        app.state.store, app.state.engine = store, engine
        worker = asyncio.create_task(engine.serve(stop=stop))
        yield
        stop.set()  # trips under way are left to the next worker
        await worker
    store.close()


app = FastAPI(lifespan=lifespan)


@app.get("/price")
async def get_price(km: float, request: Request) -> float:
    """A run for each request, of a graph that was compiled once."""
    return float(await request.app.state.program.run(km=km))


@app.post("/trips/{number}", status_code=202)
async def post_trip(number: int, order: Order, request: Request) -> dict[str, str]:
    """Begin a trip. A second request for it changes nothing."""
    run_id = f"trip-{number}"
    await cs.enqueue_async(request.app.state.store, trip(number, order.km), run_id=run_id)
    return {"run": run_id}


@app.post("/trips/{number}/payment", status_code=204)
async def post_payment(number: int, request: Request) -> None:
    try:
        await request.app.state.engine.signal(f"trip-{number}", "payment", True)
    except cs.errors.RunNotFoundError as error:
        raise HTTPException(404, "no such trip") from error
    except cs.errors.RunConflictError as error:
        raise HTTPException(409, "the trip has ended") from error


@app.get("/trips/{number}")
def get_trip(number: int, request: Request) -> dict[str, Any]:
    store = request.app.state.store
    run = store.find(f"trip-{number}")
    if run is None:
        raise HTTPException(404, "no such trip")
    return {"run": run.run_id, "status": str(run.status)}
