"""The environment of the application: installation, command lines, settings."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from controller.runtime import (
    RUNTIME_VARIABLE,
    BadTlsSettings,
    UnknownRuntime,
    configured_runtime,
    launch_command,
)

ROOT = Path(__file__).resolve().parents[3]
RYU_WSGI = "import warnings; warnings.simplefilter('ignore'); import ryu.app.wsgi"
# an ordinary installation runs the hook at the start of every Python
WITHOUT_HOOK = "import sys; sys.meta_path = [f for f in sys.meta_path if 'Ryu' not in str(f)]"


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a Python of its own."""
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
        check=False,
    )


def test_ryu_needs_the_import_hook_and_nothing_else() -> None:
    assert "ALREADY_HANDLED" in python(f"{WITHOUT_HOOK}; {RYU_WSGI}").stderr
    hooked = python(
        f"from controller.runtime import ryu_import_hook; ryu_import_hook.install(); {RYU_WSGI}"
    )
    assert hooked.returncode == 0, hooked.stderr


RYUS_OWN_COMMAND = """\
from controller.runtime import ryu_import_hook
ryu_import_hook.install()  # as the hook file does
import sys
from ryu.cmd.manager import main
sys.exit(main())
"""


def test_the_command_of_ryu_runs_ours_where_it_was_installed_last(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(0o755)
    command = tmp_path / "ryu-manager"
    command.write_text(RYUS_OWN_COMMAND)
    run = subprocess.run(
        [sys.executable, str(command), "controller.app"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CLOUDTAP_STATE__DIRECTORY": str(state)},
        check=False,
    )
    assert run.returncode == 1 and f"type `chmod go= {state}`" in run.stderr, run.stderr
    assert "Traceback" not in run.stderr and "Eventlet is deprecated" not in run.stderr


LIBRARIES = {"ryu", "os_ken", "eventlet"}
SHOW_LOADED = "print(*sorted(set(sys.modules) - before))"


def test_the_import_hook_imports_nothing_before_it_is_needed() -> None:
    # every Python of the environment runs it at its start
    loaded = python(
        "import sys; before = set(sys.modules); from controller.runtime import ryu_import_hook;"
        f"ryu_import_hook.install(); {SHOW_LOADED}"
    )
    assert loaded.returncode == 0, loaded.stderr
    assert not {*LIBRARIES, "flows", "structlog", "logging"} & set(loaded.stdout.split())


@pytest.mark.parametrize(
    "name", ["run_blocking", "launch_command", "CannotListen", "BadTlsSettings"]
)
def test_a_name_that_needs_no_openflow_library_loads_none(name: str) -> None:
    loaded = python(
        f"import sys; before = set(sys.modules); from controller.runtime import {name};"
        f"{SHOW_LOADED}"
    )
    assert loaded.returncode == 0, loaded.stderr
    assert not LIBRARIES & set(loaded.stdout.split())


def test_an_ordinary_installation_brings_the_hook_file(tmp_path: Path) -> None:
    source, built = tmp_path / "source", tmp_path / "built"
    source.mkdir()
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "MANIFEST.in", "zz_cloudtap_ryu.pth"):
        shutil.copy(ROOT / name, source)
    for package in ("controller", "flows"):
        shutil.copytree(ROOT / package, source / package)
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build", "--build-lib", str(built)],
        cwd=source,
        check=True,
        capture_output=True,
    )
    hooked = python(f"import site; site.addsitedir({str(built)!r}); {RYU_WSGI}")
    assert hooked.returncode == 0, hooked.stderr


def test_ryu_manager_is_our_entry_point_and_starts() -> None:
    started = subprocess.run(
        [Path(sys.executable).with_name("ryu-manager"), "--version"],
        capture_output=True,
        text=True,
        env={**os.environ, RUNTIME_VARIABLE: "ryu"},
        check=False,
    )
    assert (started.returncode, started.stdout.strip()) == (0, "ryu-manager 4.34")
    assert started.stderr == ""


def test_each_runtime_has_its_command_line() -> None:
    ryu = launch_command("ryu", "controller.app", ["--verbose"])
    assert Path(ryu[0]).name == "ryu-manager" and ryu[1:] == ["--verbose", "controller.app"]
    assert launch_command("os-ken")[-2:] == ["controller.runtime.osken", "controller.app"]


def test_an_unknown_runtime_is_one_sentence() -> None:
    with pytest.raises(UnknownRuntime, match=r"there is no runtime 'pox': choose ryu or os-ken"):
        launch_command("pox")
    refused = python("from controller.runtime import App", CLOUDTAP_OPENFLOW__RUNTIME="pox")
    assert "there is no runtime 'pox'" in refused.stderr


@pytest.mark.parametrize("runtime", ["ryu", "os-ken"])
def test_the_runtime_can_be_chosen_and_its_names_are_complete(runtime: str) -> None:
    code = (
        "import warnings; warnings.simplefilter('ignore'); from controller import runtime;"
        "[getattr(runtime, name) for name in runtime.__all__];"
        "print(runtime.BACKEND, runtime.HUB, runtime.App.OFP_VERSIONS)"
    )
    loaded = python(code, CLOUDTAP_OPENFLOW__RUNTIME=runtime)
    hub = {"ryu": "eventlet", "os-ken": "native"}[runtime]
    assert loaded.stdout.split("\n")[0] == f"{runtime} {hub} [4]", loaded.stderr


@pytest.mark.parametrize(
    ("text", "environment", "expected"),
    [
        ('[openflow]\nruntime = "os-ken"\n', {}, "os-ken"),
        ('[openflow]\nruntime = "os-ken"\n', {RUNTIME_VARIABLE: "ryu"}, "ryu"),
        ("[openflow]\ninsecure = false\n", {}, None),
        ("openflow = 1\n", {}, None),
        ("[openflow\n", {}, None),
        (None, {}, None),
    ],
)
def test_the_runtime_is_a_setting_like_others(
    text: str | None, environment: dict[str, str], expected: str | None, tmp_path: Path
) -> None:
    """What is wrong with the file is said by the controller, which reads all of it."""
    file = tmp_path / "cloudtap.toml"
    if text is not None:
        file.write_text(text)
    assert configured_runtime({"CLOUDTAP_CONFIG": str(file), **environment}) == expected


@pytest.mark.parametrize(("runtime", "hub"), [("ryu", "eventlet"), ("os-ken", "native")])
def test_the_manager_of_ryu_runs_the_application_on_the_configured_library(
    runtime: str, hub: str, tmp_path: Path
) -> None:
    (tmp_path / "cloudtap.toml").write_text(f"[openflow]\nruntime = '{runtime}'\n")
    (tmp_path / "probe.py").write_text(
        "import os\nfrom controller import runtime\n"
        "print(runtime.BACKEND, runtime.HUB, flush=True)\nos._exit(0)\n"
    )
    paths = {"PYTHONPATH": f"{ROOT}:{tmp_path}", "CLOUDTAP_CONFIG": str(tmp_path / "cloudtap.toml")}
    others = {name: value for name, value in os.environ.items() if name != RUNTIME_VARIABLE}
    started = subprocess.run(
        [launch_command("ryu")[0], "probe"],
        capture_output=True, text=True, env={**others, **paths}, check=False,
    )  # fmt: skip
    assert started.stdout.splitlines()[-1] == f"{runtime} {hub}", started.stderr
    assert ("os-ken is configured: running on os-ken" in started.stderr) == (runtime == "os-ken")


def test_an_unknown_runtime_ends_the_manager_with_one_sentence() -> None:
    started = subprocess.run(
        [launch_command("ryu")[0], "controller.app"],
        capture_output=True, text=True, env={**os.environ, RUNTIME_VARIABLE: "pox"}, check=False,
    )  # fmt: skip
    assert started.returncode == 1
    assert started.stderr == "cloudtap: there is no runtime 'pox': choose ryu or os-ken\n"


def test_an_unknown_name_is_an_attribute_error() -> None:
    from controller import runtime

    with pytest.raises(AttributeError):
        runtime.no_such_name  # noqa: B018


def test_tls_needs_certificate_and_key() -> None:
    from controller import runtime

    with pytest.raises(BadTlsSettings, match="private key not given"):
        runtime.configure(certificate="cert.pem")
    with pytest.raises(BadTlsSettings):
        runtime.configure(ca="ca.pem")


@pytest.mark.parametrize(("given", "runtime"), [(["RUNTIME=os-ken"], "os-ken"), ([], "ryu")])
def test_make_chooses_the_runtime_of_the_controllers_of_tests(
    given: list[str], runtime: str
) -> None:
    code = "from tests.ovs.controller_process import RUNTIME; print(RUNTIME)"
    others = {n: v for n, v in os.environ.items() if n not in (RUNTIME_VARIABLE, "RUNTIME")}
    shown = subprocess.run(
        ["make", "-s", "--eval", f"shown:; @$(BIN)/python -c '{code}'", "shown", *given],
        cwd=ROOT, env=others, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert shown.stdout == f"{runtime}\n"
