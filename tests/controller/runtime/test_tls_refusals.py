"""Failed handshakes are told for a while, and strangers cannot take the place of known hosts."""

from __future__ import annotations

import ssl

import pytest

from controller.runtime.tls_refusals import (
    HOSTS_SHOWN_MAX,
    SHOWN_S,
    STRANGERS_SHOWN_MAX,
    TlsRefusals,
    explain_handshake,
)


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


def alert(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, reason)
    error.reason = reason
    return error


def test_they_are_told_for_a_while_or_until_a_handshake_is_done() -> None:
    clock = Clock()
    refusals = TlsRefusals(clock)
    refusals.note("192.0.2.1", "one", is_known=False)
    refusals.note("192.0.2.2", "two", is_known=True)
    assert refusals.by_host() == {"192.0.2.1": "one", "192.0.2.2": "two"}
    refusals.forget("192.0.2.2")
    assert refusals.by_host() == {"192.0.2.1": "one"}
    clock.time += SHOWN_S + 1
    assert refusals.by_host() == {}


def test_strangers_do_not_take_the_place_of_others() -> None:
    refusals = TlsRefusals(Clock())
    refusals.note("198.51.100.1", "first", is_known=False)
    refusals.note("192.0.2.1", "ours", is_known=True)
    for number in range(1000):
        refusals.note(f"203.0.113.{number}", "flood", is_known=False)
    found = refusals.by_host()
    assert len(found) == STRANGERS_SHOWN_MAX + 1
    assert (found["192.0.2.1"], found["198.51.100.1"]) == ("ours", "first")


def test_a_stranger_has_one_place_for_all_addresses_of_its_network() -> None:
    refusals = TlsRefusals(Clock())
    for number in range(1, 100):
        refusals.note(f"2001:db8::{number:x}", "flood", is_known=False)
    assert len(refusals.by_host()) == 1


def test_known_hosts_are_bounded_too() -> None:
    refusals = TlsRefusals(Clock())
    for number in range(HOSTS_SHOWN_MAX + 5):
        refusals.note(f"host{number}", "again", is_known=True)
    found = refusals.by_host()
    assert len(found) == HOSTS_SHOWN_MAX and f"host{HOSTS_SHOWN_MAX + 4}" in found


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (alert("SSLV3_ALERT_CERTIFICATE_EXPIRED"), "refuses the certificate of the controller"),
        (alert("TLSV1_ALERT_UNKNOWN_CA"), "an authority that it does not trust"),
        (ssl.SSLCertVerificationError(1, "certificate verify failed"), "its certificate is not"),
    ],
)
def test_whose_certificate_it_is_is_told(error: ssl.SSLError, words: str) -> None:
    if isinstance(error, ssl.SSLCertVerificationError):
        error.verify_message = "certificate has expired"
    said = explain_handshake("192.0.2.1:4711", error)
    assert said is not None and words in said and "192.0.2.1:4711" in said


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError("late"),
        alert("WRONG_VERSION_NUMBER"),
        alert("PEER_DID_NOT_RETURN_A_CERTIFICATE"),
    ],
)
def test_what_no_certificate_has_caused_is_left_to_the_log(error: OSError) -> None:
    assert explain_handshake("192.0.2.1:4711", error) is None
