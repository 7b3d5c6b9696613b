"""Router: which function answers which method and path. Routes are declared on a Router and looked up in a Table."""

from .route import Options, Route
from .router import Router
from .table import Table

__all__ = ["Options", "Route", "Router", "Table"]
