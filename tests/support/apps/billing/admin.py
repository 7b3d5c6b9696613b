"""A part of billing that is an app of its own."""

from __future__ import annotations

from fastapi import FastAPI

admin = FastAPI(title="admin")


@admin.get("/users/{name}")
async def get_user(name: str) -> dict[str, str]:
    return {"admin": name}
