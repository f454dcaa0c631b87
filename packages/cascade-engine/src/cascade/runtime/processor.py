"""NodeProcessor under its public import path; its home is ``attempts``."""

from cascade.runtime.attempts import NodeProcessor

__all__ = ["NodeProcessor"]
