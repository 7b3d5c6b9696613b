"""Contracts: what a service promises its callers, made from its routes, signatures and ``raises=``."""

from __future__ import annotations

from .document import openapi, unspoken

__all__ = ("openapi", "unspoken")
