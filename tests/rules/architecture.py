"""Rules about who may import whom: the table of docs/architecture.md, and the folders' faces."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from functools import cache

from tests.rules.sources import ROOT, Source

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

ANY = None
"""Every name that a folder offers."""
Names = frozenset[str] | None
VALUES_OF_THE_INVENTORY = frozenset(
    ["DeclaredBridge", "Inventory", "InventoryChange", "InterfaceName", "LinkHint", "Pending"]
)

_MIDDLE = dict.fromkeys(("model", "openflow", "errors"), ANY)
MAY_IMPORT_IN_FLOWS: Mapping[str, Mapping[str, Names]] = {
    "errors": {},
    "openflow": {"errors": ANY},
    "model": {"openflow": ANY, "errors": ANY},
    **dict.fromkeys(("resolve", "pipeline", "plan", "semantics", "beacon"), _MIDDLE),
    "compile": {
        **_MIDDLE,
        **dict.fromkeys(("resolve", "pipeline", "plan", "semantics", "beacon"), ANY),
    },
    "explain": {
        **_MIDDLE,
        **dict.fromkeys(("compile", "resolve", "pipeline", "plan", "semantics", "beacon"), ANY),
    },
}
"""Each folder of flows/, and the folders of flows/ that it may import, by name."""

MAY_IMPORT_IN_CONTROLLER: Mapping[str, Mapping[str, Names]] = {
    "process": {},
    "inventory": {"neutron": ANY},
    "syntax": {},
    "status": {},
    "sensors": {},
    "runtime": {},
    "databases": {},
    "neutron": {},
    "devices": {},
    "southbound": {"databases": ANY, "devices": ANY},
    "http": {"runtime": frozenset(["CannotListen"])},
    "config": {"syntax": ANY, "runtime": frozenset(["CONFIG_FILE"])},
    "store": {"syntax": ANY, "runtime": frozenset(["run_blocking"])},
    "topology": {
        "inventory": VALUES_OF_THE_INVENTORY,
        "southbound": ANY,
        "devices": ANY,
        "store": frozenset(["BridgeRecord", "InterfaceRecord", "Place", "StoredCounts"]),
    },
    "reconcile": {
        "inventory": VALUES_OF_THE_INVENTORY,
        "store": frozenset(["DesiredState", "Limits"]),
        "southbound": ANY,
        "status": ANY,
    },
    "api": {
        **dict.fromkeys(("store", "inventory", "status", "syntax", "sensors"), ANY),
        "http": frozenset(["FRONT_TITLES", "REASON_PHRASES"]),
    },
    "cli": {
        "config": ANY,
        "databases": frozenset(
            [
                *("CannotRead", "TlsFiles", "read_bridges"),
                *("MARK", "MIRROR_MARK", "OFFLOADS", "PAIR_MARK", "TAPS"),
            ]
        ),
        "devices": ANY,
        "inventory": frozenset(["BadYaml", "SeenInterface", "Sight", "draft", "read_values"]),
        "syntax": ANY,
        "store": frozenset(["back_up", "restore"]),
        "southbound": frozenset(["ask_vswitchd", "CommandFailed", "NotAnswered"]),
        "runtime": frozenset(
            [
                "launch_command",
                "default_runtime",
                "OpenFlowAddressInUse",
                "RUNTIME_VARIABLE",
                "RuntimeMissing",
            ]
        ),
    },
}
"""Each folder of controller/, and what it may import besides itself, flows/ and process/."""

OF_ALL_FLOWS: Mapping[str, frozenset[str]] = {
    "runtime": frozenset(["errors", "openflow"]),
    "databases": frozenset(),
    "neutron": frozenset(),
}
"""Folders of controller/ that may not import all of flows/, and what they may."""

ONLY_FOR_LAUNCH = frozenset(["Connections", "OpenFlowSwitch", "OvsdbWatcher", "ManagedSwitch"])
"""Adapters: reconcile/ and topology/ know them by Protocols."""

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
    """Each folder imports only what the tables name; a folder that they do not name, nothing."""
    if source.path in ("flows/__init__.py", "controller/__init__.py") or source.module in ROOTS:
        return
    tree, _, rest = source.module.partition(".")
    folder = rest.split(".")[0]
    for line, name in source.imports():
        other_tree, _, other_rest = name.partition(".")
        other = other_rest.split(".")[0]
        if other_tree not in ("flows", "controller") or (other_tree, other) == (tree, folder):
            continue
        if not _may_import(tree, folder, other_tree, other, name.rpartition(".")[2]):
            yield f"{source.path}:{line}: {tree}/{folder} may not import {name}"


def _may_import(tree: str, folder: str, other_tree: str, other: str, name: str) -> bool:
    if tree == "flows":
        allowed = MAY_IMPORT_IN_FLOWS.get(folder, {})
        return other_tree == "flows" and other in allowed
    if other_tree == "flows":
        return folder not in OF_ALL_FLOWS or other in OF_ALL_FLOWS[folder]
    if other == "process":
        return True
    allowed = MAY_IMPORT_IN_CONTROLLER.get(folder, {})
    if other not in allowed or (folder in ("reconcile", "topology") and name in ONLY_FOR_LAUNCH):
        return False
    names = allowed[other]
    return names is ANY or name in names


def faces(source: Source) -> Iterator[str]:
    """A folder is imported through its face: names of its ``__all__``, and nothing behind it.

    Inside a folder, and from the folders in it, its modules are imported directly.
    """
    package = source.module if source.path.endswith("/__init__.py") else _parent(source.module)
    for line, name in source.imports():
        module, last = _parent(name), name.rpartition(".")[2]
        if module.split(".")[0] not in ("flows", "controller") or module == "flows.errors":
            continue
        face = module if is_folder(module) else _parent(module)
        if within(package, face) or (within(face, package) and source.path.endswith("__init__.py")):
            continue
        if face in ("flows", "controller") and module == face:
            if last in ("errors",) or not is_folder(name):
                continue
            yield f"{source.path}:{line}: import a name of {name}, not the folder"
        elif module != face:
            yield f"{source.path}:{line}: import {last} from {face}, not from {module}"
        elif last not in offered(face):
            yield f"{source.path}:{line}: {face} does not offer {last} (see its __all__)"


def roots(source: Source) -> Iterator[str]:
    """Nobody imports the application or the composition root, except they themselves."""
    if any_of(source.module, ROOTS) or within(source.module, "tests"):
        return
    for line, name in source.imports():
        if any_of(name, ROOTS):
            yield f"{source.path}:{line}: nobody may import {name}"


@cache
def is_folder(name: str) -> bool:
    """Whether a dotted name is a folder of the product."""
    return (ROOT / name.replace(".", "/") / "__init__.py").is_file()


@cache
def offered(folder: str) -> frozenset[str]:
    """The names that a folder offers: its ``__all__``."""
    text = (ROOT / folder.replace(".", "/") / "__init__.py").read_text()
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return frozenset(ast.literal_eval(node.value))
    return frozenset()


def within(name: str, package: str) -> bool:
    """Whether a dotted name is the package or lies in it."""
    return name == package or name.startswith(f"{package}.")


def any_of(name: str, packages: tuple[str, ...]) -> bool:
    """Whether a dotted name lies in one of the packages."""
    return any(within(name, package) for package in packages)


def _parent(name: str) -> str:
    return name.rpartition(".")[0]
