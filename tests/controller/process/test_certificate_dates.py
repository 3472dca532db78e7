"""Until when certificates are valid is read as it is, and said in time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from controller.process import CertificateWatch, OwnCertificates, renewed_files
from controller.process.certificate_dates import SOON, validities
from controller.process.metrics import CERTIFICATE_EXPIRY
from tests.ovs.runtime_process import Authority

DAY = timedelta(days=1)


class Clock:
    """The time that a test says it is."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture(autouse=True)
def looks_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewed_files, "LOOK_AT_FILES_S", 0.0)


def own(authority: Authority, certificate: str, key: str) -> OwnCertificates:
    return OwnCertificates(
        "openflow", Path(certificate), Path(key), authority.certificate,
        ours="switches refuse it", theirs="no switch is accepted",
    )  # fmt: skip


@pytest.mark.parametrize("days", [1, 20, 365, 20_000])
def test_the_dates_are_those_that_the_certificate_has(tmp_path: Path, days: int) -> None:
    """20,000 days are after 2049: then the year has four digits."""
    certificate, _ = Authority(tmp_path, "ca").issue("hv1", valid=days * DAY)
    pem = Path(certificate).read_bytes()
    [found], known = validities(pem), x509.load_pem_x509_certificate(pem)
    assert found.begins == known.not_valid_before_utc
    assert found.ends == known.not_valid_after_utc


def test_a_damaged_certificate_raises_a_value_error(tmp_path: Path) -> None:
    certificate, _ = Authority(tmp_path, "ca").issue("hv1")
    lines = Path(certificate).read_text().splitlines()
    for kept in range(1, len(lines) - 1):
        pem = "\n".join((*lines[:kept], lines[-1])).encode()
        try:
            validities(pem)
        except ValueError:
            continue


def test_a_certificate_that_runs_out_is_said_before_and_after(tmp_path: Path) -> None:
    authority, clock = Authority(tmp_path, "ca"), Clock()
    files = authority.issue("controller", valid=60 * DAY)
    watch = CertificateWatch([own(authority, *files)], now=clock)
    watch()
    assert watch.problems() == ()
    clock.now += 60 * DAY - SOON
    [soon] = watch.problems()
    assert "`certificate` of [openflow]" in soon and files[0] in soon
    assert "runs out at" in soon and "then switches refuse it" in soon
    clock.now += SOON
    [late] = watch.problems()
    assert "ran out at" in late and "switches refuse it" in late
    clock.now += 365 * DAY
    assert any("`ca` of [openflow]" in said for said in watch.problems())
    metric = CERTIFICATE_EXPIRY.labels("openflow", "certificate")
    ends = validities(Path(files[0]).read_bytes())[0].ends
    assert metric._value.get() == ends.timestamp()


def test_it_is_said_no_more_once_it_is_replaced(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    files = authority.issue("controller", valid=DAY)
    watch = CertificateWatch([own(authority, *files)])
    watch()
    assert len(watch.problems()) == 1
    authority.issue("controller")
    watch()
    assert watch.problems() == ()


def test_an_old_authority_beside_a_new_one_may_run_out(tmp_path: Path) -> None:
    authority, clock = Authority(tmp_path, "ca"), Clock()
    files = authority.issue("controller", valid=4000 * DAY)
    old, _ = authority.issue("old", valid=DAY)
    with authority.certificate.open("ab") as known:
        known.write(Path(old).read_bytes())
    watch = CertificateWatch([own(authority, *files)], now=clock)
    watch()
    assert watch.problems() == ()


def test_a_certificate_of_the_future_is_said(tmp_path: Path) -> None:
    authority, clock = Authority(tmp_path, "ca"), Clock()
    clock.now -= 2 * DAY
    watch = CertificateWatch([own(authority, *authority.issue("controller"))], now=clock)
    watch()
    assert all("is valid from" in said for said in watch.problems())
    assert len(watch.problems()) == 2, "the authority is as young"


def test_files_that_cannot_be_used_leave_the_dates_of_those_that_are(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    files = authority.issue("controller", valid=DAY)
    watch = CertificateWatch([own(authority, *files)])
    watch()
    Path(files[0]).write_text("nothing")
    watch()
    assert len(watch.problems()) == 1
