"""The recipe of the image: its lines are run on a Debian system, its entry point as its user."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.installed.machine import Machine
from tests.installed.recipe import Instruction, Stage, read_recipe
from tests.installed.wheels import Builder
from tests.ovs.waiting import wait_for
from tests.rules.sources import ROOT

RECIPE = (ROOT / "packaging" / "Containerfile").read_text()
PAGE = (ROOT / "docs/how-to/container.md").read_text()


class Build:
    """Runs a stage on a machine, which takes the place of its base."""

    def __init__(self, machine: Machine, context: Path) -> None:
        self._machine, self._context, self._folder = machine, context, Path("/")

    def run(self, stage: Stage) -> None:
        """All instructions that change the file system, in their order."""
        self._folder = Path("/")
        for one in stage.instructions:
            if one.name == "WORKDIR":
                self._folder = Path(one.text)
                self._machine.must(f"mkdir -p {self._folder}")
            elif one.name == "COPY":
                self._copy(one)
            elif one.name == "RUN" and not one.text.startswith("apt-get"):
                done = self._machine.run(f"cd {self._folder} && {one.text}", is_online=True)
                assert done.returncode == 0, f"{one.text}: {done.stdout}"

    def _copy(self, instruction: Instruction) -> None:
        *sources, target = instruction.words
        if sources[0].startswith("--from="):  # the machine has it already: see the test
            return
        place = self._machine.root / str(self._folder / target).lstrip("/")
        for source in sources:
            if (self._context / source).is_dir():
                shutil.copytree(self._context / source, place, dirs_exist_ok=True)
            else:
                shutil.copy(self._context / source, place)


def test_the_image_is_made_of_two_stages_and_has_no_rights() -> None:
    build, image = read_recipe(RECIPE)
    assert (build.base, image.base) == ("docker.io/library/debian:12-slim",) * 2
    assert build.name == "build" and image.last("COPY").words[0] == "--from=build"
    assert image.last("USER").text == "947:947"
    assert not [one for one in image.instructions if "pip" in one.text]
    for stage in (build, image):
        for one in stage.instructions:
            if "apt-get install" in one.text:
                assert "--no-install-recommends" in one.text
    assert "u:947:rw" in PAGE and "user:947" in PAGE


@pytest.mark.parametrize("line", ["RUNN x", "RUN x", "ADD x y"])
def test_what_is_no_recipe_is_not_understood(line: str) -> None:
    with pytest.raises(ValueError, match="not understood"):
        read_recipe(f"{line}\n" if line.startswith("RUN ") else f"FROM a\n{line}\n")


def test_the_lines_of_the_recipe_make_a_controller_that_answers(
    tmp_path: Path, builder: Builder
) -> None:
    build, image = read_recipe(RECIPE)
    with Machine(tmp_path) as machine:
        run = Build(machine, builder.sources())
        run.run(build)
        machine.must("rm -r /src")  # only what is copied from this stage is there
        run.run(image)
        user = re.split(":", image.last("USER").text)
        variables = [f"{name}={value}" for name, value in image.variables().items()]
        as_user = ["setpriv", f"--reuid={user[0]}", f"--regid={user[1]}", "--clear-groups"]
        as_user += ["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
        program = [*as_user, "env", "-i", *variables, *image.last("ENTRYPOINT").words]
        health = image.last("HEALTHCHECK").text.partition(" CMD ")[2]
        is_healthy = shlex.join([*as_user, "env", "-i", *variables, *Instruction("", health).words])
        assert machine.run(is_healthy).returncode != 0, "nothing runs yet"
        folder = image.last("WORKDIR").text
        up = shlex.join([*program, *image.last("CMD").words])
        machine.must(f"systemd-run --unit=container --working-directory={folder} {up}")
        wait_for(lambda: machine.run(is_healthy).returncode, lambda status: status == 0)
        assert "cloudtap 0.1.0 at" in machine.must(shlex.join([*program, "status"]))
        machine.must(f"test -O / && test $(stat -c %U {folder}/state.db) = cloudtap")
        machine.must("systemctl stop container")
        assert machine.run(is_healthy).returncode != 0
