"""What surrounds the application: installation, commands, the API's server, settings."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from controller.runtime.command import command
from controller.runtime.errors import ApiAddressInUse, BadTlsSettings, UnknownRuntime
from controller.runtime.http_server import serve_wsgi
from flows.errors import CloudtapError

ROOT = Path(__file__).resolve().parents[2]
RYU_WSGI = "import warnings; warnings.simplefilter('ignore'); import ryu.app.wsgi"
# an ordinary installation repairs every Python at its start
UNREPAIRED = "import sys; sys.meta_path = [f for f in sys.meta_path if 'Ryu' not in str(f)]"


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


def hello(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """The smallest API."""
    start_response("200 OK", [])
    return [b"hello"]


def test_ryu_needs_the_repair_and_the_repair_is_enough() -> None:
    assert "ALREADY_HANDLED" in python(f"{UNREPAIRED}; {RYU_WSGI}").stderr
    repaired = python(f"from controller.runtime import repair; repair.install(); {RYU_WSGI}")
    assert repaired.returncode == 0, repaired.stderr


def test_the_repair_loads_nothing_before_it_is_needed() -> None:
    # it passes through every start of Python in the environment
    loaded = python(
        "import sys; before = set(sys.modules); from controller.runtime import repair;"
        "repair.install(); print(*sorted(set(sys.modules) - before))"
    ).stdout.split()
    assert not {"ryu", "os_ken", "eventlet", "flows", "structlog", "logging"} & set(loaded)


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


def test_ryu_manager_is_ours_and_starts() -> None:
    started = subprocess.run(
        [Path(sys.executable).with_name("ryu-manager"), "--version"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (started.returncode, started.stdout.strip()) == (0, "ryu-manager 4.34")
    assert started.stderr == ""


def test_each_runtime_has_its_command() -> None:
    ryu = command("ryu", "controller.app", ["--verbose"])
    assert Path(ryu[0]).name == "ryu-manager" and ryu[1:] == ["--verbose", "controller.app"]
    assert command("os-ken")[-2:] == ["controller.runtime.osken", "controller.app"]


def test_an_unknown_runtime_is_one_sentence() -> None:
    with pytest.raises(UnknownRuntime, match=r"there is no runtime 'pox': choose ryu or os-ken"):
        command("pox")
    refused = python("from controller.runtime import App", CLOUDTAP_RUNTIME="pox")
    assert "there is no runtime 'pox'" in refused.stderr


@pytest.mark.parametrize("runtime", ["ryu", "os-ken"])
def test_the_runtime_can_be_chosen_and_its_names_are_complete(runtime: str) -> None:
    code = (
        "import warnings; warnings.simplefilter('ignore'); from controller import runtime;"
        "[getattr(runtime, name) for name in runtime.__all__];"
        "print(runtime.BACKEND, runtime.HUB, runtime.App.OFP_VERSIONS)"
    )
    loaded = python(code, CLOUDTAP_RUNTIME=runtime)
    hub = {"ryu": "eventlet", "os-ken": "native"}[runtime]
    assert loaded.stdout.split("\n")[0] == f"{runtime} {hub} [4]", loaded.stderr


def test_a_name_that_the_runtime_has_not_is_an_attribute_error() -> None:
    from controller import runtime

    with pytest.raises(AttributeError):
        runtime.no_such_name  # noqa: B018


def test_tls_needs_certificate_and_key() -> None:
    from controller import runtime

    with pytest.raises(BadTlsSettings, match="private key not given"):
        runtime.configure(certificate="cert.pem")
    with pytest.raises(BadTlsSettings):
        runtime.configure(ca="ca.pem")


def test_the_api_is_served_until_it_is_stopped() -> None:
    server = serve_wsgi(hello, "127.0.0.1", 0)
    host, port = server.address
    with urllib.request.urlopen(f"http://{host}:{port}/", timeout=5) as answer:
        assert answer.read() == b"hello"
    server.stop()
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, port), timeout=5)


def test_an_api_address_in_use_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ApiAddressInUse, match=f"port {port}: the port is in use") as refused:
            serve_wsgi(hello, "127.0.0.1", port)
    assert isinstance(refused.value, CloudtapError)


def test_an_address_of_another_machine_is_one_sentence() -> None:
    with pytest.raises(ApiAddressInUse, match=r"192\.0\.2\.1 port 9: Cannot assign"):
        serve_wsgi(hello, "192.0.2.1", 9)
