"""Rules about who may know whom."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from tests.rules.sources import Source

# modules of the standard library that touch the world, or differ from run to run
IMPURE = frozenset(
    [
        "asyncio",
        "datetime",
        "http",
        "io",
        "logging",
        "multiprocessing",
        "os",
        "pathlib",
        "queue",
        "random",
        "secrets",
        "select",
        "shutil",
        "signal",
        "socket",
        "sqlite3",
        "subprocess",
        "tempfile",
        "threading",
        "time",
        "urllib",
        "uuid",
    ]
)
LIBRARIES_OF_THE_RUNTIME = ("ryu", "os_ken", "eventlet", "greenlet")

# the reconciler: it knows switches and the store by their Protocols and values alone
RECONCILER = tuple(
    f"controller.{part}"
    for part in (
        *("reconcile", "bridge", "ahead", "desired", "standing"),
        *("counters", "counting", "status", "limits", "verify", "verified", "programs"),
        *("tunnel_needs", "tally", "losses", "beaten", "drifts", "flow_list", "neighbours"),
        "explaining",
    )
)
VALUES = (
    "controller.process.metrics",
    "controller.process.garbage",
    "controller.process.time_slices",
    "controller.inventory.file",
    "controller.southbound.errors",
    "controller.southbound.switch",
    "controller.southbound.ovsdb.tunnel_port",
    "controller.store.Desired",
    "controller.store.Counted",
    "controller.store.Limits",
)
# part of the controller -> the parts of the controller that it may know
MAY_KNOW = {
    **dict.fromkeys(RECONCILER, (*RECONCILER, *VALUES)),
    "controller.southbound": ("controller.southbound", "controller.status.values"),
    "controller.store": (
        "controller.store",
        "controller.syntax.filters",
        "controller.runtime.blocking",
    ),
    "controller.api": (
        "controller.api",
        "controller.syntax.filters",
        "controller.syntax.packets",
        "controller.inventory.file",
        "controller.process.metrics",
        "controller.process.pauses",
        "controller.sensors",
        "controller.store",
        "controller.status.values",
    ),
    "controller.sensors": ("controller.sensors",),
    "controller.cli": (
        "controller.cli",
        "controller.config.settings",
        "controller.syntax.rates",
        "controller.runtime.command",
        "controller.runtime.errors",
    ),
    "controller.records": ("controller.records",),
    "controller.runtime": ("controller.runtime",),
}
ROOTS = ("controller.launch", "controller.app")


def flows_imports(source: Source) -> Iterator[str]:
    """flows/ imports itself, the pure part of the standard library, netaddr and xxhash."""
    if not within(source.module, "flows"):
        return
    for line, name in source.imports():
        top = name.split(".")[0]
        if top in IMPURE or top not in {"flows", "netaddr", "xxhash", *sys.stdlib_module_names}:
            yield f"{source.path}:{line}: flows/ may not import {name}"


def runtime_imports(source: Source) -> Iterator[str]:
    """Only controller/runtime knows ryu, os-ken and eventlet."""
    if within(source.module, "controller.runtime"):
        return
    for line, name in source.imports():
        if name.split(".")[0] in LIBRARIES_OF_THE_RUNTIME:
            yield f"{source.path}:{line}: only controller/runtime may import {name}"


def direction(source: Source) -> Iterator[str]:
    """Each part of the controller knows only the parts below it."""
    for part, known in MAY_KNOW.items():
        if not within(source.module, part):
            continue
        for line, name in source.imports():
            if within(name, "controller") and not any_of(name, known):
                yield f"{source.path}:{line}: {part} may not import {name}"


def roots(source: Source) -> Iterator[str]:
    """Nobody imports the application or the composition root, except they themselves."""
    if any_of(source.module, ROOTS) or within(source.module, "tests"):
        return
    for line, name in source.imports():
        if any_of(name, ROOTS):
            yield f"{source.path}:{line}: nobody may import {name}"


def within(name: str, package: str) -> bool:
    """Whether a dotted name is the package or lies in it."""
    return name == package or name.startswith(f"{package}.")


def any_of(name: str, packages: tuple[str, ...]) -> bool:
    """Whether a dotted name lies in one of the packages."""
    return any(within(name, package) for package in packages)
