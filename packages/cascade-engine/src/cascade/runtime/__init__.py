"""The engine: runs graphs concurrently, executes blueprints, owns resources and events.

``cascade.runtime.engine`` wires the parts. ``graph_path`` runs graphs, ``vm`` and ``loops`` are the
virtual machine. Implementations of ``cascade.spec.protocols`` live in ``cascade.adapters``.
"""
