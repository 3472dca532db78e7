"""The man pages of `cloudtap` in the language of man(7), generated from the commands.

`cloudtap(1)` is about the command, `cloudtap-COMMAND(1)` about each of its parts with all that
belongs to it, and `cloudtap(8)` about the service, from a text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import click

from controller.cli.main import main

ENVIRONMENT: Mapping[str, str] = {
    "CLOUDTAP_API": "URL of the controller, as --api.",
    "CLOUDTAP_TOKEN": "The token of the API itself, where --token-file is not given.",
    "CLOUDTAP_TENANT": "The tenant that is meant where --tenant is not given.",
    "CLOUDTAP_CA_FILE": "Certificates that sign that of the API, as --ca-file.",
    "CLOUDTAP_INSECURE": "1: send the token although the URL is http:, as --insecure.",
    "CLOUDTAP_CONFIG": "Configuration file of the controller, as --config of its commands.",
    "CLOUDTAP_SECTION__KEY": "Overrides KEY in [SECTION] of the configuration.",
    "NO_COLOR": "No colours.",
}
FILES: Mapping[str, str] = {
    "/etc/cloudtap/cloudtap.toml": "Configuration of the controller.",
    "/etc/cloudtap/inventory.yaml": "The inventory: what exists.",
    "/var/lib/cloudtap": "State of the controller that runs as a service.",
}
STATUS = "0: done. 1: not done, with one sentence on standard error. 2: wrong use."


def render() -> str:
    """All pages as one text, each after a line `==> NAME`; tools/docs makes files of them."""
    return "".join(f"==> {name}\n{text}" for name, text in pages().items())


def pages() -> dict[str, str]:
    """The text of each page by the name of its file."""
    context = click.Context(main, info_name="cloudtap")
    found = {"cloudtap.1": _main_page(context)}
    for name in main.list_commands(context):
        command = main.commands[name]
        if not command.hidden:
            below = click.Context(command, info_name=name, parent=context)
            found[f"cloudtap-{name}.1"] = _command_page(command, below)
    found["cloudtap.8"] = _service_page()
    return found


def _main_page(context: click.Context) -> str:
    names = [name for name in main.list_commands(context) if not main.commands[name].hidden]
    lines = [_title("CLOUDTAP", 1), ".SH NAME", rf"cloudtap \- {_text(_first_line(main))}"]
    lines += [".SH SYNOPSIS", ".B cloudtap", r"[\fIOPTIONS\fR] \fICOMMAND\fR [\fIARGUMENTS\fR]"]
    lines += [".SH DESCRIPTION", "A client of the API of a cloudtap controller, and the command"]
    lines += ["that runs one. Tables are for people; programs use", r".B \-\-output json"]
    lines += ["or", r'.BR "\-\-output yaml" .', ".SH OPTIONS", *_options(main, context)]
    lines.append(".SH COMMANDS")
    for name in names:
        summary = _text(main.commands[name].get_short_help_str(200))
        lines += [".TP", rf".BR cloudtap\-{_text(name)} (1)", summary]
    lines += [".SH ENVIRONMENT", *_pairs(ENVIRONMENT), ".SH FILES", *_pairs(FILES)]
    lines += [".SH EXIT STATUS", _text(STATUS), ".SH SEE ALSO", ".BR cloudtap (8)"]
    return _joined(lines)


def _command_page(command: click.Command, context: click.Context) -> str:
    name = context.command_path.replace(" ", "-")
    lines = [
        _title(name.upper(), 1),
        ".SH NAME",
        rf"{_text(name)} \- {_text(_first_line(command))}",
    ]
    leaves = list(_leaves(command, context))
    lines.append(".SH SYNOPSIS")
    for leaf, below in leaves:
        lines += [".PP", rf".B {_text(below.command_path)}"]
        lines.append(_text(" ".join(leaf.collect_usage_pieces(below))))
    for leaf, below in leaves:
        is_alone = leaf is command
        lines.append(".SH DESCRIPTION" if is_alone else f".SH {_text(below.command_path.upper())}")
        lines += _paragraphs(leaf)
        lines += [".SS Options" if not is_alone else ".SH OPTIONS", *_options(leaf, below)]
    lines += [".SH EXIT STATUS", _text(STATUS), ".SH SEE ALSO", ".BR cloudtap (1)"]
    return _joined(lines)


def _service_page() -> str:
    lines = [_title("CLOUDTAP", 8), ".SH NAME", r"cloudtap \- the controller as a service"]
    lines += [".SH DESCRIPTION"]
    for sentence in (
        "cloudtap.service runs the controller as the user cloudtap, without any right of root. "
        "Bridges of Open vSwitch connect to it (ovs-vsctl set-controller), and keep their flows "
        "while it is away.",
        "cloudtap-openvswitch.path watches /run/openvswitch, and extends the access lists of the "
        "database socket and of the control socket of ovs-vswitchd by the user cloudtap whenever "
        "Open vSwitch was started.",
        "Inventory, certificates and token are read again when they change, the configuration "
        "when the service is restarted. All that is logged is in the journal: "
        "journalctl -u cloudtap.",
        "To see what is missing on a machine: runuser -u cloudtap -- cloudtap doctor.",
    ):
        lines += [".PP", _text(sentence)]
    more = {
        "/etc/cloudtap/cloudtap.env": "Variables of the service, such as CLOUDTAP_LOG__LEVEL.",
        "/etc/tmpfiles.d/cloudtap.conf": "The sockets of Open vSwitch that it may use.",
    }
    lines += [".SH FILES", *_pairs({**FILES, **more})]
    lines += [".SH SEE ALSO", ".BR cloudtap (1),", ".BR ovs\\-vsctl (8),", ".BR systemd.exec (5)"]
    return _joined(lines)


def _leaves(
    command: click.Command, context: click.Context
) -> Iterator[tuple[click.Command, click.Context]]:
    """The commands that do something, each with its context."""
    if not isinstance(command, click.Group):
        yield command, context
        return
    for name in command.list_commands(context):
        below = command.commands[name]
        if not below.hidden:
            yield from _leaves(below, click.Context(below, info_name=name, parent=context))


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    for option in command.get_params(context):
        record = option.get_help_record(context) if isinstance(option, click.Option) else None
        if record is not None:
            names, words = record
            yield from (".TP", rf"\fB{_text(names)}\fR", _text(words))


def _pairs(texts: Mapping[str, str]) -> Iterator[str]:
    for name, words in texts.items():
        yield from (".TP", f".B {_text(name)}", _text(words))


def _paragraphs(command: click.Command) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", (command.help or "").strip()):
        yield from (".PP", _text(" ".join(paragraph.replace("\b", "").split())))


def _first_line(command: click.Command) -> str:
    return command.get_short_help_str(200).rstrip(".")


def _title(name: str, section: int) -> str:
    return f'.TH {_text(name)} {section} "" cloudtap cloudtap'


def _text(words: str) -> str:
    """Words as they are, whatever they hold: no request at the start of a line, no escape."""
    safe = (
        words.replace("\\", r"\e").replace("-", r"\-").replace("`", r"\(ga").replace("'", r"\(aq")
    )
    return rf"\&{safe}" if safe.startswith(".") else safe


def _joined(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(render(), end="")
