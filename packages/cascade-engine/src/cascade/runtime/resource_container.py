"""ResourceContainer under the name that programs import it by; its home is ``resources``."""

from cascade.runtime.resources.container import ResourceContainer

__all__ = ["ResourceContainer"]
