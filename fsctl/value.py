"""Values made many times a call, cheaply. Pure.

Python's own frozen dataclasses assign every field through ``object.__setattr__``: making one costs four times as much
as making a plain one, and a call makes some fifty. These are frozen for the type checker, which sees every line of
fsctl, and plain when they run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

__all__ = ["value"]

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(cls: type[T]) -> type[T]:
    """Make a class a dataclass with slots whose fields nobody assigns to, and which is hashed by them."""
    return dataclass(slots=True, unsafe_hash=True)(cls)
