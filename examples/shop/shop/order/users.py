"""What orders need of the user service, in their own words."""

from __future__ import annotations

from mizzen import Client

from .model import User


class Users:
    """Users, wherever they live."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def find(self, id: int) -> User | None:
        """The user of that id, if there is one; a ``CallError`` when the user service does not say."""
        return await self.client.get("/users/{id}", path={"id": id}, into=User, absent=None)
