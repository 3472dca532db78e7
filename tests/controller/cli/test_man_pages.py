"""Every command has a man page, which groff reads without a warning."""

from __future__ import annotations

import shutil
import subprocess

import click
import pytest

from controller.cli import main
from controller.cli.man_pages import pages

PAGES = pages()


def shown(text: str) -> str:
    """A page as man(1) shows it, in lines without an end; groff must have nothing to say."""
    groff = shutil.which("groff")
    assert groff, "groff is missing: `make setup-tests` installs it"
    command = [groff, "-man", "-Tascii", "-P-cbou", "-ww", "-rLL=1000n"]
    run = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    assert run.stderr == ""
    return run.stdout


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_read_without_a_warning(name: str) -> None:
    assert shown(PAGES[name]).count("NAME") >= 1


@pytest.mark.parametrize("name", [name for name in main.commands if not main.commands[name].hidden])
def test_a_page_has_every_option_of_its_command(name: str) -> None:
    page = shown(PAGES[f"cloudtap-{name}.1"])
    command = main.commands[name]
    leaves = list(command.commands.values()) if isinstance(command, click.Group) else [command]
    for leaf in leaves:
        for option in leaf.params:
            if isinstance(option, click.Option):
                assert all(word in page for word in option.opts), option.opts


def test_what_looks_like_a_request_of_troff_is_shown_as_it_is() -> None:
    text = "Words\n.\n"
    with pytest.raises(AssertionError):
        shown(f".TH X 1\n.SH NAME\n{text}.NOTHING\n")
