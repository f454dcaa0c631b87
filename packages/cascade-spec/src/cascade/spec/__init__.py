"""The words of a Cascade program: tasks, lazy values, the Blueprint IR, protocols, errors.

This layer describes programs and runs nothing; it imports only the standard library. Names live in
the modules (``cascade.spec.task``, ``cascade.spec.lazy_types``, …); ``import cascade as cs`` is the
facade over all of them.
"""
