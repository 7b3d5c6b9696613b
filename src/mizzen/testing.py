"""What users' tests import: ``async with testing.client(build(Settings()), {Users: FakeUsers()}) as http``."""

from mizzen.tools.testing.client import TestClient, client
from mizzen.tools.testing.memory import MemoryNetwork
from mizzen.tools.testing.virtual import run

__all__ = ("MemoryNetwork", "TestClient", "client", "run")
