"""The wheel installs with one plain command in a new environment, and its controller starts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SOURCES = (
    *("setup.cfg", "setup.py", "pyproject.toml", "MANIFEST.in", "zz_cloudtap_ryu.pth"),
    *("README.md", "LICENSE", "CHANGELOG.md"),
)
NO_CACHE = {"PIP_NO_CACHE_DIR": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Without settings of ours, and without a wheel of ryu in the cache of pip."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT", "PYTHON", "CLOUDTAP_"))
    }
    return {**kept, **NO_CACHE}


def run(*command: str | Path, cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_plain_pip_install_of_the_wheel_works_without_a_cache_and_its_controller_starts(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in SOURCES:
        shutil.copy(ROOT / name, source)
    for folder in ("controller", "flows"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, source / folder, ignore=ignored)
    pip = (sys.executable, "-m", "pip")
    wheel_command = (*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, source)
    built = run(*wheel_command, cwd=tmp_path, env=environment)
    assert built.returncode == 0, built.stdout + built.stderr
    [wheel] = tmp_path.glob("cloudtap-*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    programs = tmp_path / "venv" / "bin"
    done = run(programs / "pip", "install", "-q", wheel, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert run(programs / "pip", "check", cwd=tmp_path, env=environment).returncode == 0
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(0o755)
    settings = {**environment, "CLOUDTAP_STATE__DIRECTORY": str(state)}
    for command in (("ryu-manager", "controller.app"), ("cloudtap", "controller")):
        ended = run(programs / command[0], *command[1:], cwd=tmp_path, env=settings)
        assert ended.returncode == 1, ended.stderr
        assert f"type `chmod go= {state}`" in ended.stderr, "the application was loaded"
    refused = run(
        programs / "cloudtap", "controller", "--runtime", "ryu", cwd=tmp_path, env=settings
    )
    assert refused.returncode == 1 and "ryu is not installed" in refused.stderr
