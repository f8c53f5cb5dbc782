"""The built-in services between two daemons, from the command line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.fleet import Fleet, demo, fleet

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path) as net:
        net.start_rendezvous()
        yield net


def test_messages_and_files_arrive_on_disk(net: Fleet) -> None:
    alice, bob = net.agent("alice"), net.agent("bob")
    net.introduce(alice, bob)
    alice("send-message", "bob", "--data", "task complete")
    alice("send-message", "bob", "--data", '{"result":42}', "--type", "json")
    report = net.root / "report.pdf"
    report.write_bytes(os.urandom(3 << 20))
    assert alice("send-file", "bob", str(report))["ack"] == f"ACK FILE {3 << 20} bytes"
    first, second = bob("inbox")["messages"]
    assert first["data"] == "task complete" and second["payload"] == {"result": 42}
    assert first["from"] == "0:0000.0000.0001"
    (received,) = bob("received")["files"]
    assert Path(received["path"]).read_bytes() == report.read_bytes()


def test_events_reach_whoever_subscribed(net: Fleet) -> None:
    alice, bob = net.agent("alice"), net.agent("bob")
    net.introduce(alice, bob)
    subscriber = alice.start("subscribe", "bob", "presence.*", "--count", "2", "--timeout", "30s")
    demo.until("the subscription", lambda: bob("info")["event_stream"]["subscriptions"])
    bob("publish", "self", "presence.status", "--data", "online")
    bob("publish", "self", "weather", "--data", "rain")
    alice("publish", "bob", "presence.status", "--data", "busy")
    heard = demo.finished(subscriber)
    assert [event["data"] for event in heard["events"]] == ["online", "busy"]
    assert not heard["timeout"]


def test_a_service_that_is_switched_off_refuses_at_once(net: Fleet) -> None:
    flags = ("-no-echo", "-no-dataexchange", "--no-eventstream", "-no-tasksubmit")
    alice, bob = net.agent("alice"), net.agent("bob", *flags)
    net.introduce(alice, bob)
    assert bob("info")["ports"] == 1  # the trust handshake's
    for words in (
        ("send-message", "bob", "--data", "hello"),
        ("publish", "bob", "topic", "--data", "hello"),
        ("connect", "bob", "7", "--message", "hello"),
    ):
        refused = alice(*words, fails=True)
        assert refused["code"] == "connection_failed"
        assert "connect" in refused["message"]
