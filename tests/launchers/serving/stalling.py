"""A server that stalls, as ones do whose host is paused: an ASGI middleware around the application."""

import asyncio
import json
import time
from typing import Any

STALL_S, EVERY_S = 0.3, 5.0


class Stalling:
    """Lets nothing in for the first 0.3 s of every 5 s.

    Attributes:
        keys: That requests came with.
        bodies: Of the requests.
    """

    def __init__(self, app: Any) -> None:
        self.app, self.began = app, time.monotonic()
        self.keys: set[str] = set()
        self.bodies: list[dict[str, Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        await asyncio.sleep(STALL_S - (time.monotonic() - self.began) % EVERY_S)  # not at all where that is below 0
        self.keys.add(dict(scope["headers"]).get(b"authorization", b"").decode())
        parts = []

        async def kept() -> Any:
            message = await receive()
            if message["type"] == "http.request":
                parts.append(message.get("body", b""))
                if not message.get("more_body"):
                    self.bodies.append(json.loads(b"".join(parts)))
            return message

        await self.app(scope, kept, send)
