"""The profiles."""

from __future__ import annotations

from skills.presence.detection.profiles import ECO, LAN, PROFILES, WAN


def test_profiles_by_name() -> None:
    assert PROFILES == {"lan": LAN, "wan": WAN, "eco": ECO}
    assert [profile.period for profile in (LAN, WAN, ECO)] == [1.0, 2.0, 10.0]


def test_a_probe_and_its_helpers_fit_into_a_period() -> None:
    for profile in PROFILES.values():
        assert 2.0 * profile.timeout <= profile.period
        assert profile.grace == 15.0 * profile.period
