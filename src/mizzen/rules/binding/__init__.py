"""Binding: a function's signature becomes a compiled call, checked before the service starts."""

from .by_hand import ByHand
from .parameter import REQUIRED, Header, Parameter, Source
from .plan import Plan, plan
from .waits import waits

__all__ = ("REQUIRED", "ByHand", "Header", "Parameter", "Plan", "Source", "plan", "waits")
