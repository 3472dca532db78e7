"""The HTTP API: resources under /v1 as a WSGI application; it computes nothing itself."""

from controller.api.app import make_app

__all__ = ["make_app"]
