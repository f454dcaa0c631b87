"""Tasks that several test modules make graphs of; special ones stay in their test."""

import asyncio

import cascade as cs


@cs.task
def add(a, b=0):
    return a + b


@cs.task
async def add_async(a, b=0):
    """As ``add``, after a turn of the event loop."""
    await asyncio.sleep(0)
    return a + b


@cs.task
def same(value):
    return value
