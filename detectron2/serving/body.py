"""ASGI middleware that stops reading a request whose body is too large."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["BodyLimit", "BodyTooLargeError"]


class BodyTooLargeError(Exception):
    """The body has more bytes than are taken."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(f"the request's body is too large; at most {max_bytes} bytes are taken")


class BodyLimit:
    """Raise in the application as soon as the body's length, announced or real, exceeds a bound.

    Args:
        app: what is wrapped.
        max_bytes: bound.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app, self._max_bytes = app, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and count what is read of it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        read = 0

        async def counted() -> Message:
            nonlocal read
            if announced.isdigit() and int(announced) > self._max_bytes:
                raise BodyTooLargeError(self._max_bytes)
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._max_bytes:
                raise BodyTooLargeError(self._max_bytes)
            return message

        await self._app(scope, counted, send)
