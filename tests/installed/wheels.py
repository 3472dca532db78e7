"""Distributions of the repository, and environments in which they are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Mapping
from itertools import count
from pathlib import Path

from tests.rules.sources import ROOT, files

CONSTRAINT = "setuptools==67.6.1\n"
"""Under which ryu builds; see docs/how-to/install.md."""
_OURS = ("PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT", "PIP_FIND_LINKS", "PYTHON", "CLOUDTAP_")
_SDIST = "from setuptools import build_meta; build_meta.build_sdist({!r})"
_WHEEL = "from setuptools import build_meta; build_meta.build_wheel({!r})"


def clean_environment(**more: str) -> dict[str, str]:
    """The variables of the system without settings of ours, and without wheels that pip has."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    return {**kept, "PIP_NO_CACHE_DIR": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", **more}


def run(
    *command: str | Path, folder: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder; its output includes standard error."""
    return subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=clean_environment() if env is None else env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def must(*command: str | Path, folder: Path, env: Mapping[str, str] | None = None) -> str:
    """The output of a command that succeeds."""
    done = run(*command, folder=folder, env=env)
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


class Builder:
    """Builds in folders of its own: builds in the repository would leave files there."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._numbers = folder, count(1)

    def sources(self, version: str | None = None) -> Path:
        """A copy of what git knows of the repository, perhaps with another version."""
        copy = self._new("sources")
        for source in files("."):
            target = copy / source.path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / source.path, target)
        if version is not None:
            config = copy / "setup.cfg"
            config.write_text(config.read_text().replace("version = 0.1.0", f"version = {version}"))
        return copy

    def wheel(self, sources: Path) -> Path:
        """The wheel of a folder of sources."""
        out = self._new("wheels")
        pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps")
        must(*pip, "--wheel-dir", out, sources, folder=out)
        [wheel] = out.glob("*.whl")
        return wheel

    def wheel_without_network(self, sources: Path) -> Path:
        """The wheel of a folder of sources, built with the setuptools of the tests."""
        out = self._new("wheels")
        must(sys.executable, "-c", _WHEEL.format(str(out)), folder=sources)
        [wheel] = out.glob("*.whl")
        return wheel

    def sdist(self, sources: Path) -> Path:
        """The unpacked source distribution of a folder of sources."""
        out = self._new("sdist")
        must(sys.executable, "-c", _SDIST.format(str(out)), folder=sources)
        [packed] = out.glob("*.tar.gz")
        shutil.unpack_archive(packed, out)
        return out / packed.name.removesuffix(".tar.gz")

    def _new(self, name: str) -> Path:
        folder = self._folder / f"{name}-{next(self._numbers)}"
        folder.mkdir()
        return folder


def content(wheel: Path) -> dict[str, bytes]:
    """The files of a wheel by their names, without the one that lists them."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/RECORD")]
        return {name: archive.read(name) for name in names}


class Environment:
    """A new virtual environment, outside the repository and with nothing of it on its path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        venv.create(folder, with_pip=True)

    def program(self, name: str) -> Path:
        """A command of it."""
        return self.folder / "bin" / name

    def pip(self, *arguments: str | Path, **more: str) -> str:
        """What pip prints; it must succeed. ``more`` are variables."""
        env = clean_environment(**more)
        return must(self.program("pip"), *arguments, folder=self.folder, env=env)

    def run(self, name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run one of its commands, in its folder."""
        return run(self.program(name), *arguments, folder=self.folder)

    def built_under_the_constraint(self) -> dict[str, str]:
        """The variables that docs/how-to/install.md tells for ryu."""
        file = self.folder / "build.txt"
        file.write_text(CONSTRAINT)
        return {"PIP_CONSTRAINT": str(file), "PIP_BUILD_CONSTRAINT": str(file)}
