"""The HTTP edge: a front process takes connections, the gateway answers its checked requests."""

from controller.http.errors import ApiAddressInUse, BadApiCertificate
from controller.http.gateway import HttpServer
from controller.http.problem_types import FRONT_TITLES
from controller.http.reason_phrases import REASON_PHRASES
from controller.http.settings import BodyLimit, FrontSettings, HttpsFiles, token_digest

__all__ = [
    "FRONT_TITLES",
    "REASON_PHRASES",
    "ApiAddressInUse",
    "BadApiCertificate",
    "BodyLimit",
    "FrontSettings",
    "HttpServer",
    "HttpsFiles",
    "token_digest",
]
