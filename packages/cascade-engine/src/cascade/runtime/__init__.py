"""The engine: runs graphs concurrently, executes blueprints, owns resources and events.

``cascade.runtime.engine`` wires the parts; ``strategies`` holds the two ways to run a program,
``vm`` the virtual machine. Implementations of ``cascade.spec.protocols`` live in
``cascade.adapters``.
"""
