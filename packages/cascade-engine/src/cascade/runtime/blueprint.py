"""The Blueprint IR under its public import path; its home is the spec layer."""

from cascade.spec.blueprint import (
    Blueprint,
    Call,
    Instruction,
    Literal,
    Operand,
    Register,
    TailCall,
)

__all__ = ["Blueprint", "Call", "Instruction", "Literal", "Operand", "Register", "TailCall"]
