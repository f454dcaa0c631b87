"""Lanes: where the calls of nodes are made, on workers and in the event loop's thread.

==================  ================================================================================
``fast_lane``       on workers: plain calls without policies, or with policies that have nothing to
                    do now (``light_calls``)
``slow_lane``       on workers: all other plain calls; those with a timeout in ``timed_calls``,
                    those that others have returned in ``returned_calls``
``pump``            in the event loop's thread: first steps of coroutines, on ``spares``
``event_loop_lane`` there, each in an asyncio task: calls with resources of their own, or limits
==================  ================================================================================

``before_call`` decides what happens before the first call of a node, ``after_call`` what after one.
"""
