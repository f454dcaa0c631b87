"""The virtual machine: executes blueprints, with tail calls and without a Python stack.

Here: ``machine`` (VirtualMachine, the face), ``interpreter`` (the readable definition of what a
blueprint does), ``frame`` (the state of one blueprint in execution) and ``registry`` (blueprints
by id, for ``TailCall(target_blueprint_id=…)``).
"""

from cascade.runtime.vm.machine import VirtualMachine
from cascade.runtime.vm.registry import BlueprintRegistry

__all__ = ["BlueprintRegistry", "VirtualMachine"]
