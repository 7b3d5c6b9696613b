"""Drivers that read and write registries, one backend per file; each is handed the `Handler` to call it through."""

from .consul import ConsulResolver
from .consul_registrar import ConsulRegistrar
from .none import NoneResolver
from .static import StaticResolver

__all__ = ["ConsulRegistrar", "ConsulResolver", "NoneResolver", "StaticResolver"]
