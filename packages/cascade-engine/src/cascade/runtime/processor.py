"""NodeProcessor under the name that programs import it by; its home is ``attempts``."""

from cascade.runtime.attempts import NodeProcessor

__all__ = ["NodeProcessor"]
