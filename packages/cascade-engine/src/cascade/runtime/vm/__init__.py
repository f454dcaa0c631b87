"""The virtual machine: executes blueprints, with tail calls and without a Python stack.

``machine`` has ``VirtualMachine``; ``strategy`` runs a target on it; ``registers`` is the readable
definition of the instructions; ``verifier`` checks whether a blueprint can run at all.

Compiled loops are in ``cascade.runtime.loops``, code for graphs of plain calls is in
``cascade.runtime.straightline``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cascade.runtime.execution.registry import BlueprintRegistry
    from cascade.runtime.vm.machine import VirtualMachine

__all__ = ["BlueprintRegistry", "VirtualMachine"]


def __getattr__(name: str) -> Any:
    # On demand: the machine uses the graph machinery, which uses the loops in this folder.
    if name == "VirtualMachine":
        from cascade.runtime.vm.machine import VirtualMachine

        return VirtualMachine
    if name == "BlueprintRegistry":
        from cascade.runtime.execution.registry import BlueprintRegistry

        return BlueprintRegistry
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
