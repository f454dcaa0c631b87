"""The Blueprint IR under the name that programs import it by; its home is the spec layer."""

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
