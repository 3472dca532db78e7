"""Values of the configuration: addresses, files, lists, networks and rates, read and checked."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated

from netaddr import IPNetwork
from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from controller.process import CERTIFICATE_BYTES_MAX, Access, UnusableFile, read_file
from controller.syntax import read_rate
from flows.errors import InvalidValue
from flows.model import Rate, RateUnit


def invalid_setting(sentence: str) -> PydanticCustomError:
    """The error of a value, with this sentence."""
    # passed as a parameter, as braces in the sentence must not be read as a template
    return PydanticCustomError("refused", "{sentence}", {"sentence": sentence})


def split_listen(value: str) -> tuple[str, int]:
    """Host (without brackets) and port of an address to listen on."""
    host, _, port = value.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def is_loopback(value: str) -> bool:
    """Whether only this machine can reach the address (``host:port``)."""
    host, _ = split_listen(value)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def split_commas(value: object) -> object:
    """Split a list written as `a, b`, as environment variables have it; return others as given."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def names_or_all(value: object) -> object:
    """Accept `all`, or a list of names."""
    return value if value == "all" else split_commas(value)


def read_networks(value: object) -> tuple[IPNetwork, ...]:
    """IP networks, given as a list or separated by commas."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        raise invalid_setting(f"{value!r} is no list of networks: write ['192.0.2.0/24']")
    return tuple(_read_network(part) for part in parts)


def read_rate_setting(value: object) -> Rate | None:
    """A rate, written as text or as a table with its unit."""
    try:
        match value:
            case None | Rate():
                return value
            case str():
                return read_rate(value)
            case {"kbps": int(number), **rest} if not rest:
                return Rate(RateUnit.KBPS, number)
            case {"pps": int(number), **rest} if not rest:
                return Rate(RateUnit.PPS, number)
    except InvalidValue as error:
        raise invalid_setting(str(error)) from error
    raise invalid_setting(f"{value!r} is no rate: write it like '200 mbps' or '5000 pps'")


def _read_network(value: object) -> IPNetwork:
    if isinstance(value, IPNetwork):
        return value
    try:
        return IPNetwork(ipaddress.ip_network(str(value).strip()).exploded)
    except ValueError as problem:
        raise invalid_setting(f"{value!r} is no network like 192.0.2.0/24: {problem}") from problem


def _check_listen(value: str) -> str:
    host, colon, port = value.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if not colon or not bare or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise invalid_setting(
            f"{value!r} is not an address to listen on: write it like 127.0.0.1:9470"
        )
    if ":" in bare and host != f"[{bare}]":
        raise invalid_setting(
            f"{value!r} has an IPv6 address without brackets: write it like [::1]:9470"
        )
    _check_host(value, bare)
    return value


def _check_host(value: str, host: str) -> None:
    """Check that a host can be looked up at all: its name is encoded for that (IDNA)."""
    try:
        host.encode("idna")
    except UnicodeError:
        raise invalid_setting(
            f"{value!r} has no valid host: each part of a name between dots has 1 to 63 characters"
        ) from None
    if not host.isprintable() or " " in host:
        raise invalid_setting(f"{value!r} has no valid host: a name has no spaces in it")


def _check_remote(value: str) -> str:
    scheme, colon, rest = value.partition(":")
    if not colon or scheme not in ("unix", "tcp", "ssl") or not rest:
        raise invalid_setting(
            f"{value!r} is not an OVSDB server: write unix:/path, tcp:192.0.2.1:6640 "
            "or ssl:192.0.2.1:6640"
        )
    if scheme != "unix":
        _check_listen(rest)
    return value


def _check_file(value: Path, access: Access = Access.PUBLIC) -> Path:
    try:
        read_file(value, CERTIFICATE_BYTES_MAX, access)
    except FileNotFoundError as error:
        raise invalid_setting(f"file {str(value)!r} cannot be read: {error.strerror}") from error
    except UnusableFile as error:
        raise invalid_setting(f"file {str(value)!r} {error.reason}") from error
    return value


def _check_key(value: Path) -> Path:
    return _check_file(value, Access.KEY)


def _check_secret(value: Path) -> Path:
    return _check_file(value, Access.SECRET)


Listen = Annotated[str, AfterValidator(_check_listen)]
"""An address to listen on, ``host:port``."""
Remote = Annotated[str, AfterValidator(_check_remote)]
"""An OVSDB server, like ``unix:/path`` or ``tcp:192.0.2.1:6640``."""
ReadableFile = Annotated[Path, AfterValidator(_check_file)]
"""A regular file that can be read now, and that not everybody may change."""
KeyFile = Annotated[Path, AfterValidator(_check_key)]
"""The same for a private key, which nobody but its owner may read (see Access.KEY)."""
SecretFile = Annotated[Path, AfterValidator(_check_secret)]
"""The same for a secret, which nobody but its owner may read."""
