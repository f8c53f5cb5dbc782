"""What a daemon was told, wherever it stood."""

from __future__ import annotations

import contextlib
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.python.usage import UsageError

from pilot.daemon import values
from pilot.daemon.options import DaemonOptions
from pilot.daemon.settings import SETTINGS, DaemonSettings, settle
from pilot.errors import InvalidArgument

#: For each setting a value as written, and where and what it becomes.
SAMPLES: dict[str, tuple[str, str, Any]] = {
    "registry": ("r.example", "registry", "r.example:9000"),
    "beacon": ("b.example:1", "beacon", "b.example:1"),
    "listen": ("127.0.0.1:0", "listen", "127.0.0.1:0"),
    "endpoint": ("[::1]:4000", "endpoint", "[::1]:4000"),
    "socket": ("/run/p.sock", "socket", "/run/p.sock"),
    "identity": ("/keys/id.json", "identity", Path("/keys/id.json")),
    "email": ("a@example.org", "email", "a@example.org"),
    "hostname": ("bob", "hostname", "bob"),
    "networks": ("3, 1,3", "networks", (3, 1)),
    "admin-token": ("t", "admin_token", "t"),
    "webhook": ("http://localhost/x", "webhook", "http://localhost/x"),
    "keepalive": ("1m30s", "keepalive", 90.0),
    "idle-timeout": ("45", "idle_timeout", 45.0),
    "syn-rate-limit": ("7", "syn_rate_limit", 7),
    "max-conns-per-port": ("8", "max_conns_per_port", 8),
    "max-conns-total": ("9", "max_conns_total", 9),
    "time-wait": ("250ms", "time_wait", 0.25),
    "inbox-messages": ("11", "inbox_messages", 11),
    "inbox-bytes": ("12KiB", "inbox_bytes", 12 << 10),
    "received-files": ("13", "received_files", 13),
    "received-bytes": ("14 GiB", "received_bytes", 14 << 30),
    "registry-fingerprint": ("AB:" * 31 + "ab", "registry_fingerprint", "ab" * 32),
    "skill": ("gossip:fanout=4", "skills", {"gossip": {"fanout": "4"}}),
    "manhole": ("6022", "manhole", "127.0.0.1:6022"),
    "manhole-keys": ("/keys/operators", "manhole_keys", "/keys/operators"),
    "metrics-port": ("[::1]:9105", "metrics_port", "[::1]:9105"),
    "log-level": ("debug", "log_level", "debug"),
    "log-format": ("json", "log_format", "json"),
}
SWITCHES: dict[str, tuple[str, bool]] = {
    "public": ("public", True),
    "no-encrypt": ("encrypt", False),
    "registry-tls": ("registry_tls", True),
    "no-echo": ("echo", False),
    "no-dataexchange": ("data_exchange", False),
    "no-eventstream": ("event_stream", False),
    "no-tasksubmit": ("task_submit", False),
    "trust-auto-approve": ("trust_auto_approve", True),
}
NOTHING = settle({}, {})


def parse(*words: str) -> DaemonSettings:
    options = DaemonOptions()
    options.parseOptions(words)
    return options.settings


def write_config(content: Any, name: str = ".pilot/config.json") -> str:
    path = Path.home() / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_the_samples_leave_no_setting_out() -> None:
    assert {setting.name for setting in SETTINGS} == set(SAMPLES) | set(SWITCHES)
    assert {field.name for field in fields(DaemonSettings)} == (
        {attribute for _, attribute, _ in SAMPLES.values()}
        | {attribute for attribute, _ in SWITCHES.values()}
        | {"home"}
    )


class TestFlags:
    @pytest.mark.parametrize("name", SAMPLES)
    def test_one_dash_or_two_one_word_or_two(self, name: str) -> None:
        written, attribute, expected = SAMPLES[name]
        for words in (
            (f"--{name}", written),
            (f"-{name}", written),
            (f"--{name}={written}",),
            (f"-{name}={written}",),
        ):
            assert getattr(parse(*words), attribute) == expected != getattr(NOTHING, attribute)

    @pytest.mark.parametrize("name", SWITCHES)
    def test_switches(self, name: str) -> None:
        attribute, on = SWITCHES[name]
        for words in ((f"--{name}",), (f"-{name}",), (f"-{name}=true",), (f"--{name}=1",)):
            assert getattr(parse(*words), attribute) is on
        for words in ((), (f"-{name}=false",), (f"--{name}", f"--{name}=F")):
            assert getattr(parse(*words), attribute) is not on

    def test_a_value_may_look_like_a_flag(self) -> None:
        settings = parse("-admin-token", "-no-echo", "--hostname", "--")
        assert (settings.admin_token, settings.hostname, settings.echo) == ("-no-echo", "--", True)

    @pytest.mark.parametrize(
        ("words", "complaint"),
        [
            (["--public=perhaps"], "--public: expected true or false, not 'perhaps'"),
            (["--keepalive", "soon"], "--keepalive: 'soon' is no duration"),
            (["--keepalive", "-5"], "--keepalive: '-5' is no duration"),
            (["--keepalive", "9" * 400], "longer than anybody will wait"),
            (["--keepalive", "5s5"], "--keepalive: '5s5' is no duration"),
            (["--listen", "4000"], r"--listen: '4000' is not \[HOST\]:PORT"),
            (["--registry", "host:99999"], "--registry: 'host:99999' is not HOST:PORT"),
            (["--registry", "::1"], "--registry: '::1' is not HOST:PORT"),
            (["--manhole", ":6022"], "--manhole: ':6022' is not PORT or HOST:PORT"),
            (["--manhole", "host"], "--manhole: 'host' is not PORT or HOST:PORT"),
            (["--metrics-port", "70000"], "--metrics-port: '70000' is not PORT or HOST:PORT"),
            (["--endpoint", "host"], "--endpoint: 'host' is not HOST:PORT"),
            (["--networks", "1,x"], "--networks: 'x' is no network id"),
            (["--networks", "0"], "--networks: '0' is no network id"),
            (["--email", "nobody"], "--email: 'nobody' is no e-mail address"),
            (["--webhook", "ftp://x"], "--webhook: webhook URL must use http or https"),
            (["--log-level", "loud"], "--log-level: expected one of debug, info, warn, error"),
            (["--registry-fingerprint", "ab"], "--registry-fingerprint: expected the SHA-256"),
            (["--syn-rate-limit", "many"], "--syn-rate-limit: expected a whole number"),
            (["--config", "/nowhere.json"], "load config: /nowhere.json does not exist"),
            (["--nonsense"], "option --nonsense not recognized"),
            (["--registry"], "option --registry requires argument"),
            (["start"], "unexpected argument 'start'; options begin with --"),
        ],
    )
    def test_mistakes_are_named(self, words: list[str], complaint: str) -> None:
        with pytest.raises(UsageError, match=complaint):
            parse(*words)

    def test_help_and_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        for word in ("-h", "-help", "--help", "-version", "--version"):
            with pytest.raises(SystemExit) as caught:
                parse(word)
            assert not caught.value.code
        out = capsys.readouterr().out
        assert all(f"--{setting.name}" in out for setting in SETTINGS)


class TestPrecedence:
    @pytest.mark.parametrize("name", SAMPLES)
    def test_the_configuration_file_holds_them_all(self, name: str) -> None:
        written, attribute, expected = SAMPLES[name]
        for key in {name, name.replace("-", "_")}:
            write_config({key: written, "unknown": 1})
            assert getattr(parse(), attribute) == expected

    @pytest.mark.parametrize("name", SWITCHES)
    def test_so_it_does_with_switches_and_a_flag_takes_them_back(self, name: str) -> None:
        attribute, on = SWITCHES[name]
        write_config({name: True})
        assert getattr(parse(), attribute) is on
        assert getattr(parse(f"--{name}=false"), attribute) is not on

    def test_numbers_and_lists_may_be_written_as_such(self) -> None:
        write_config({"keepalive": 5, "syn-rate-limit": 6, "networks": [1, 2]})
        settings = parse()
        found = (settings.keepalive, settings.syn_rate_limit, settings.networks)
        assert found == (5.0, 6, (1, 2))

    def test_flag_then_file_then_environment_then_default(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert parse().registry == ""
        monkeypatch.setenv("PILOT_REGISTRY", "env:1")
        assert parse().registry == "env:1"
        write_config({"registry": "file:1"})
        assert parse().registry == "file:1"
        assert parse("--registry", "flag:1").registry == "flag:1"
        assert parse("--registry", "").embedded

    def test_the_socket_is_where_clients_look_for_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from pilot.client.places import socket_path

        assert parse().socket == socket_path() == "/tmp/pilot.sock"
        write_config({"socket": "/file.sock"})
        assert parse().socket == socket_path() == "/file.sock"
        monkeypatch.setenv("PILOT_SOCKET", "/env.sock")
        assert parse().socket == socket_path() == "/env.sock"
        assert parse("--socket", "/flag.sock").socket == "/flag.sock"

    def test_a_named_file_replaces_the_usual_one(self) -> None:
        write_config({"hostname": "usual", "email": "a@b.c"})
        named = write_config({"hostname": "named"}, "other.json")
        settings = parse("--config", named)
        assert (settings.hostname, settings.email) == ("named", "")

    def test_pilot_home_moves_the_files(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PILOT_HOME", str(tmp_path / "elsewhere"))
        settings = parse()
        assert settings.home == tmp_path / "elsewhere"
        assert settings.identity == tmp_path / "elsewhere" / "identity.json"

    @pytest.mark.parametrize(
        ("content", "complaint"),
        [
            ("{", "is not JSON"),
            ("[1]", "does not hold a JSON object"),
            ({"keepalive": True}, "keepalive in .*config.json: expected a duration"),
            ({"hostname": 7}, "hostname in .*config.json: expected a text"),
            ({"public": "yes"}, "public in .*config.json: expected true or false"),
            ({"networks": [1.5]}, "networks in .*config.json: 1.5 is no network id"),
        ],
    )
    def test_a_faulty_file_is_no_empty_one(self, content: Any, complaint: str) -> None:
        """Else a typing mistake would put the node on another network without a word."""
        write_config(content)
        with pytest.raises(UsageError, match=complaint):
            parse()

    def test_the_environments_faults_are_named_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PILOT_BEACON", "b:b")
        with pytest.raises(UsageError, match="PILOT_BEACON: 'b:b' is not HOST:PORT"):
            parse()


class TestDerived:
    def test_a_beacon_stands_beside_its_registry(self) -> None:
        assert parse("--registry", "r:7").beacon == "r:9001"
        assert parse("--registry", "[::1]:7").beacon == "[::1]:9001"
        assert parse("--registry", "r:7", "--beacon", "b").beacon == "b:9001"
        assert parse().beacon == ""

    def test_zero_means_the_default(self) -> None:
        settings = parse("--keepalive", "0", "--max-conns-total", "0", "--time-wait=0s")
        assert (settings.keepalive, settings.max_conns_total, settings.time_wait) == (60, 4096, 10)

    def test_an_empty_identity_is_a_key_for_one_run(self) -> None:
        assert parse("--identity=").identity is None

    def test_a_fingerprint_implies_tls(self) -> None:
        assert parse("--registry-fingerprint", "0" * 64).registry_tls

    def test_the_account_of_an_earlier_start(self) -> None:
        write_config({"email": "a@b.org"}, ".pilot/account.json")
        assert parse().email == "a@b.org"
        assert parse("--email", "x@y.org").email == "x@y.org"
        write_config("garbage", ".pilot/account.json")
        assert parse().email == ""

    def test_paths_are_absolute(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.chdir(tmp_path)
        assert parse("--socket", "s").socket == str(tmp_path / "s")
        assert parse("--socket", "~/s").socket == str(Path.home() / "s")

    def test_secrets_stay_out_of_logs(self) -> None:
        assert "sesame" not in repr(parse("--admin-token", "sesame"))


class TestDurations:
    @pytest.mark.parametrize(
        ("written", "seconds"),
        [
            ("0", 0.0),
            ("90", 90.0),
            (".5", 0.5),
            ("1.5h", 5400.0),
            ("1h2m3s", 3723.0),
            ("300ms", 0.3),
            ("5us", 5e-6),
            ("5µs", 5e-6),
            ("7ns", 7e-9),
        ],
    )
    def test_as_go_writes_them(self, written: str, seconds: float) -> None:
        assert values.duration(written) == pytest.approx(seconds)

    @given(st.text(max_size=12))
    def test_any_text_gives_seconds_or_our_error(self, written: str) -> None:
        with contextlib.suppress(InvalidArgument):
            assert values.duration(written) >= 0

    @given(
        st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=4)
    )
    def test_any_value_anywhere_gives_a_value_or_our_error(self, value: Any) -> None:
        for setting in SETTINGS:
            try:
                setting.read(value)
            except InvalidArgument:
                continue
