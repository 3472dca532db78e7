"""The front process: parses HTTP, enforces limits, and passes on whole requests."""

from controller.http.front.server import serve

__all__ = ["serve"]
