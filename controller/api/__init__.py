"""The HTTP API: resources under /v1 as a WSGI application; it computes nothing itself."""

from controller.api.app import MAX_BODY, MAX_RULES_BODY, make_app

__all__ = [
    "MAX_BODY",
    "MAX_RULES_BODY",
    "make_app",
]
