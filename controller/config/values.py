"""Values of the configuration that are written in words: networks and rates."""

from __future__ import annotations

import ipaddress

from netaddr import IPNetwork
from pydantic_core import PydanticCustomError

from controller.syntax.rates import read_rate
from flows.errors import InvalidValue
from flows.model.session import Rate, RateUnit


def refuse(sentence: str) -> PydanticCustomError:
    """The error of a value, in our own words."""
    # the sentence travels as a value: braces in it are not a template
    return PydanticCustomError("refused", "{sentence}", {"sentence": sentence})


def read_networks(value: object) -> tuple[IPNetwork, ...]:
    """IP networks, as a list or separated by commas."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        raise refuse(f"{value!r} is no list of networks: write ['192.0.2.0/24']")
    return tuple(_read_network(part) for part in parts)


def _read_network(value: object) -> IPNetwork:
    if isinstance(value, IPNetwork):
        return value
    try:
        return IPNetwork(ipaddress.ip_network(str(value).strip()).exploded)
    except ValueError as problem:
        raise refuse(f"{value!r} is no network like 192.0.2.0/24: {problem}") from problem


def read_rate_setting(value: object) -> Rate | None:
    """Let a rate be written in words, or as a table with its unit."""
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
        raise refuse(str(error)) from error
    raise refuse(f"{value!r} is no rate: write it like '200 mbps' or '5000 pps'")
