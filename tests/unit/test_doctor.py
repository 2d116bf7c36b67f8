"""What the doctor makes of the facts, and that it tells no secrets."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from freewheel.commands import doctor
from freewheel.commands.doctor import (
    disk_finding,
    host_findings,
    proxy_findings,
)
from freewheel.machine.host import Host

GIB = 1 << 30


def host(*, odd: bool) -> Host:
    return Host(
        cgroups="hybrid" if odd else "v2",
        may_raise_limits=not odd,
        limits={"nofile": 20_000},
        systemd=not odd,
        root=True,
    )


def test_an_ordinary_host_is_ok() -> None:
    assert {finding.state for finding in host_findings(host(odd=False))} == {"ok"}


def test_oddities_are_named_with_how_they_are_handled() -> None:
    findings = list(host_findings(host(odd=True)))

    assert {finding.state for finding in findings} == {"odd"}
    assert [finding.topic for finding in findings] == ["control groups", "limits"]
    assert all(finding.reason for finding in findings)
    assert "nofile 20000" in findings[1].detail


def test_too_little_disk_has_a_remedy() -> None:
    finding = disk_finding("cache", Path("/c"), 2 * GIB, needed=5 * GIB)

    assert finding.state == "missing"
    assert "FREEWHEEL_CACHE" in finding.remedy


def test_enough_disk_is_ok() -> None:
    assert disk_finding("cache", Path("/c"), 6 * GIB, needed=5 * GIB).state == "ok"


@pytest.mark.parametrize(
    "environ",
    [
        {"https_proxy": "http://user:secret@proxy.example:3128"},
        {"HTTPS_PROXY": "http://user:secret@proxy.example:3128"},
    ],
)
def test_a_proxy_is_shown_without_its_password(environ: Mapping[str, str]) -> None:
    (finding,) = proxy_findings(environ)

    assert "proxy.example:3128" in finding.detail
    assert "secret" not in str(finding)
    assert "user" not in finding.detail


def test_a_certificate_bundle_is_shown() -> None:
    (finding,) = proxy_findings({"PIP_CERT": "/etc/ca.pem", "REQUESTS_CA_BUNDLE": ""})

    assert finding.detail == "PIP_CERT=/etc/ca.pem"


def test_what_no_build_needs_is_absent_and_not_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("freewheel.machine.postgres.find_binaries", lambda: None)

    assert doctor._postgresql().state == "absent"
