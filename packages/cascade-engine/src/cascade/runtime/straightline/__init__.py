"""Straight-line code for graphs of plain calls, written once per shape of graph.

If all nodes of a graph are plain calls, one function can make them one after the other, with a
local variable for each result. It is generated for a *shape*, which is the graph without its plain
values, so that a task that returns the same few calls in each of its steps is compiled once (M4).
For ``add(double(x), 1)``::

    def straight(context, count, held, turn, values, slots):
        a0, a1, = values
        v0 = f0(a0)
        if type(v0) not in ATOMS and continues(v0): return stop(locals(), base, 0, v0)
        if len(context) != count or (held and differs(context, held)) or (
            now := clock()
        ) > turn.until: return stop(locals(), base, 1)
        turn.began = now
        v1 = f1(v0, a1)
        …

A variable is set to RELEASED after its last use, so that its value can be freed (M21).

The code stops after a call that writes to its context, because other calls must not see that (M12),
and after one that has used up the caller's turn. If a call returns no value (but a tail call, a
lazy value, or a coroutine by mistake) or raises, the results so far are handed to a graph run,
which continues from there.

``walks`` takes graphs apart, ``chunks`` writes the code, of which large graphs have several
functions, ``straight`` enters it, and ``stops`` has the points where it stops.
"""
