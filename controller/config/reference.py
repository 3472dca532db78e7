"""The reference page of the configuration, generated from its model; `python -m` prints it."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from netaddr import IPNetwork

from controller.config.settings import DEFAULT_FILE, Config, section_model
from flows.model import Rate


def render() -> str:
    """The page, in Markdown."""
    lines = [
        "# Configuration",
        "",
        f"One TOML file, by default `{DEFAULT_FILE}` (it may be missing); `CLOUDTAP_CONFIG` or",
        "`--config` names another one, which then must exist. Every key can also be given in the",
        "environment as `CLOUDTAP_<SECTION>__<KEY>`, for example `CLOUDTAP_API__LISTEN`; the",
        "environment wins. A list is written there with commas. Unknown keys are refused.",
    ]
    for section in Config.model_fields:
        model = section_model(section)
        lines += ["", f"## [{section}]", "", f"{model.__doc__}", "", "| key | type | default | |"]
        lines.append("|---|---|---|---|")
        for key, what in model.model_fields.items():
            shown = "" if what.default_factory else _show(what.default)
            lines.append(f"| `{key}` | {_type(what.annotation)} | {shown} | {what.description} |")
    return "\n".join(lines) + "\n"


def _show(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return f"`{str(value).lower()}`"
        case tuple():
            return ", ".join(f"`{part}`" for part in value)
        case _:
            return f"`{value}`"


def _type(annotation: Any) -> str:
    names: Mapping[Any, str] = {
        str: "text", Path: "file", bool: "true or false", float: "number", int: "number",
        Rate: "rate", IPNetwork: "network",
    }  # fmt: skip
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _type(arguments[0])
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in arguments)
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type(part) for part in arguments if part is not type(None))
    return names[annotation]


if __name__ == "__main__":
    print(render(), end="")
