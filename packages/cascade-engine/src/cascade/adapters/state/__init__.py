"""State backends: the values of nodes, kept for reading after a run."""

from cascade.adapters.state.memory import InMemoryStateBackend

__all__ = ["InMemoryStateBackend"]
