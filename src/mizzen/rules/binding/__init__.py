"""Binding: a function's signature becomes a compiled call, checked before the service starts."""

from .parameter import REQUIRED, Header, Parameter, Source
from .plan import Plan, plan

__all__ = ("REQUIRED", "Header", "Parameter", "Plan", "Source", "plan")
