"""State backends: what nodes gave, kept for reading after a run."""

from cascade.adapters.state.memory import InMemoryStateBackend

__all__ = ["InMemoryStateBackend"]
