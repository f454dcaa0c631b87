"""ResourceContainer under its public import path; its home is ``resources``."""

from cascade.runtime.resources.container import ResourceContainer

__all__ = ["ResourceContainer"]
