"""Whatever a body holds, other threads run every few milliseconds while it is read and answered.

What counts is the processor time of the thread between two of its yields, so that other load of the
machine does not.
"""

from __future__ import annotations

import gc
import json
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from controller.api import MAX_RULES_BODY
from controller.process import expect_many_objects, time_slices

STRETCH_MAX_S = 0.05
"""The longest stretch without a yield: five slices, because this machine may be a slow one."""
RANGES = ",".join(str(n) for n in range(1, 128, 2))
LARGE = MAX_RULES_BODY - 1000


class Stretches:
    """Stands for the module ``time`` in that of the time slices: notes how seldom threads yield."""

    def __init__(self) -> None:
        self.longest, self.where = 0.0, ""
        self._since = time.thread_time()

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        self.note()

    def note(self) -> None:
        """The thread yields now."""
        now = time.thread_time()
        if now - self._since > self.longest:
            self.longest = now - self._since
            self.where = "".join(traceback.format_stack(limit=12))
        self._since = time.thread_time()

    def begin(self) -> None:
        self._since = time.thread_time()


@pytest.fixture
def _as_in_the_controller() -> Iterator[None]:
    """The garbage collector has its settings, and does not look at what tests have allocated."""
    before, callbacks = gc.get_threshold(), list(gc.callbacks)
    gc.collect()
    gc.freeze()
    expect_many_objects()
    yield
    gc.set_threshold(*before)
    gc.callbacks[:] = callbacks
    gc.unfreeze()


@pytest.fixture
def stretches(monkeypatch: pytest.MonkeyPatch, _as_in_the_controller: None) -> Iterator[Stretches]:
    seen = Stretches()
    monkeypatch.setattr(time_slices, "time", seen)
    yield seen


def rules(count: int, match: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"number": n, "action": "accept", "match": match} for n in range(1, count + 1)]


def body_of(**values: Any) -> str:
    return json.dumps({"name": "f", "tenant": "red", **values})


def repeated(text: str, *, before: str, after: str, size: int = LARGE) -> str:
    return before + ",".join([text] * ((size - 200) // (len(text) + 1))) + after


IN_MATCH = {"before": '{"name":"f","ingress":[{"number":1,"match":{', "after": "}}]}"}
IN_LIST = {"before": '{"name":"f","ingress":[', "after": "]}"}

BODIES: dict[str, Callable[[], str]] = {
    "unknown keys": lambda: repeated('"k%s":1' % ("a" * 8), before='{"name":"f",', after="}"),
    "unknown keys of a match": lambda: repeated('"k":1', **IN_MATCH),
    "numbers": lambda: repeated("1", **IN_LIST),
    "fewer numbers": lambda: repeated("1", **IN_LIST, size=199_000),
    "long numbers": lambda: repeated("9" * 4000, **IN_LIST),
    "one long number": lambda: '{"name":' + "9" * LARGE + "}",
    "one long fraction": lambda: '{"name":0.' + "9" * LARGE + "}",
    "one long text": lambda: '{"name":"' + "a" * LARGE + '"}',
    "one long escaped text": lambda: '{"name":"' + "\\n" * (LARGE // 2) + '"}',
    "long texts": lambda: repeated('"%s"' % ("\\u00e9" * 40_000), **IN_LIST),
    "surrogates": lambda: repeated('"\\ud83d\\ude00"', **IN_LIST, size=1_500_000),
    "white space": lambda: '{"name":' + " " * LARGE + '"f"}',
    "empty lists": lambda: repeated("[]", **IN_LIST),
    "empty objects": lambda: repeated("{}", **IN_LIST),
    "empty objects that fit": lambda: repeated("{}", **IN_LIST, size=290_000),
    "deep": lambda: '{"a":' * 3_000_000 + "1",
    "deep lists": lambda: "[" * LARGE,
    "quotation marks": lambda: '{"name":' + '"' * LARGE,
    "backslashes": lambda: '{"name":"' + "\\" * LARGE + '"}',
    "commas": lambda: "{" + "," * LARGE,
    "no JSON": lambda: "a" * LARGE,
    "brackets that close": lambda: "]" * LARGE,
    "20,000 wide rules": lambda: body_of(
        ingress=rules(20_000, {"protocol": "tcp", "destination_port": RANGES})
    ),
    "many wrong rules": lambda: body_of(ingress=rules(100_000, {"protocol": "nonsense"})),
}
"""Each is made when it is asked for: together they take 300 MB."""


@pytest.mark.parametrize("kind", BODIES)
def test_a_hostile_body_lets_others_run(
    client: FlaskClient, stretches: Stretches, kind: str
) -> None:
    body = BODIES[kind]().encode()
    assert len(body) < MAX_RULES_BODY
    headers = {"Idempotency-Key": kind}
    # at its first large request a process gets memory from the kernel, once
    client.post("/v1/filters", data=b" " * len(body), content_type="application/json")
    stretches.begin()

    stretches.longest = 0.0
    answer = client.post("/v1/filters", data=body, content_type="application/json", headers=headers)

    stretches.note()
    assert answer.status_code in (400, 422), answer.get_data(as_text=True)[:300]
    assert stretches.longest < STRETCH_MAX_S, stretches.where


def test_a_filter_of_20000_rules_lets_others_run(client: FlaskClient, stretches: Stretches) -> None:
    match = {"protocol": "tcp", "destination": "10.0.0.0/8", "destination_port": "80"}
    given = rules(20_000, match)
    body = body_of(ingress=given).encode()
    changed = json.dumps({"ingress": given}).encode()
    for path, send, data in (
        ("/v1/filters", client.post, body),
        ("/v1/filters/f", client.get, None),
        ("/v1/filters/f", client.patch, changed),
        ("/v1/filters", client.get, None),
    ):
        sent = {} if data is None else {"data": data, "content_type": "application/json"}
        stretches.begin()
        answer = send(path, **sent)
        stretches.note()
        assert answer.status_code in (200, 201), answer.get_data(as_text=True)[:300]
        assert stretches.longest < STRETCH_MAX_S, stretches.where


def test_a_stretch_without_a_yield_is_found(stretches: Stretches) -> None:
    stretches.begin()
    json.loads("[" + "1," * 3_000_000 + "1]")
    stretches.note()

    assert stretches.longest > STRETCH_MAX_S
