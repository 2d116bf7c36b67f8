"""Debian and Ubuntu as a source: packages by apt, archives from its mirror, a base file system.

No mirror is named here. All of them come from what apt on this machine is configured with.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from freewheel.base import console, files, process
from freewheel.base.errors import CommandFailed, FreewheelError

FAMILIES = ("debian", "ubuntu")
_APT_HELPER = "/usr/lib/apt/apt-helper"
_APT_TIMEOUT = 900.0  # seconds
_DOWNLOAD_TIMEOUT = 600.0  # seconds
_BASE_EPOCH = (
    "1767225600"  # 2026-01-01; file times in the base, so that equal packages, equal bytes
)
_UNUSED = ("doc", "info", "locale", "man")  # parts of /usr/share that no build reads


class AptError(FreewheelError):
    """apt could not do what was asked. Stages raise their own kind instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """What /etc/os-release says: ``family`` is ID, ``suite`` VERSION_CODENAME ("" if none)."""

    family: str
    suite: str
    like: tuple[str, ...]

    @property
    def has_apt(self) -> bool:
        return self.family in FAMILIES


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """One line of apt's sources: a repository, a release of it, and one of its components."""

    uri: str
    release: str
    component: str
    signed_by: str

    @property
    def line(self) -> str:
        option = f"[signed-by={self.signed_by}] " if self.signed_by else ""
        return f"deb {option}{self.uri} {self.release} {self.component}"


def distribution() -> Distribution:
    """The distribution of this machine; one without a name where nothing says."""
    try:
        release: Mapping[str, str] = platform.freedesktop_os_release()
    except OSError:
        release = {}
    return Distribution(
        family=release.get("ID", ""),
        suite=release.get("VERSION_CODENAME", ""),
        like=tuple(release.get("ID_LIKE", "").split()),
    )


def is_root() -> bool:
    """Whether packages may be installed, as far as the user goes."""
    return sys.platform != "win32" and os.geteuid() == 0


def can_install() -> bool:
    """Whether ``install`` may be tried here: root, on a distribution with apt."""
    return is_root() and distribution().has_apt and shutil.which("apt-get") is not None


def install_command(packages: Sequence[str]) -> str:
    """What a person types to get ``packages``."""
    return f"sudo apt-get install --no-install-recommends {' '.join(packages)}"


def install(packages: Sequence[str], *, why: str) -> None:
    """Install packages, after saying so; the package lists are refreshed when that is needed.

    Raises AptError.
    """
    console.note(f"installing {', '.join(packages)} with apt-get: {why}")
    argv = [
        *("apt-get", "install", "--yes", "--no-install-recommends"),
        *("--option", "DPkg::Lock::Timeout=300", *packages),
    ]
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        # A machine's lists are often absent, or name versions that the mirror has dropped.
        if process.run(argv, env=quiet, timeout=_APT_TIMEOUT, check=False).returncode != 0:
            update()
            process.run(argv, env=quiet, timeout=_APT_TIMEOUT)
    except CommandFailed as error:
        raise AptError(
            f"apt-get could not install {', '.join(packages)}",
            problems=error.output.strip().splitlines()[-6:],
            hint=f"fix what apt complains about, then `{install_command(packages)}`",
        ) from error


def update() -> None:
    """Refresh apt's package lists. Raises CommandFailed."""
    process.run(["apt-get", "update", "--option", "DPkg::Lock::Timeout=300"], timeout=_APT_TIMEOUT)


def missing(packages: Sequence[str]) -> tuple[str, ...]:
    """Those of ``packages`` that are not installed."""
    form = "${Package} ${db:Status-Status}\n"
    asked = ["dpkg-query", "--show", f"--showformat={form}", *packages]
    told = process.run(asked, timeout=60, check=False).stdout.splitlines()
    return tuple(name for name in packages if f"{name} installed" not in told)


def available(pattern: str) -> tuple[str, ...]:
    """The packages whose whole name matches the regular expression, and that apt can install."""
    found = process.run(["apt-cache", "search", "--names-only", f"^{pattern}$"], timeout=60)
    return tuple(line.partition(" ")[0] for line in found.stdout.splitlines())


def mirrors() -> tuple[Mirror, ...]:
    """The distribution's own repositories, as apt is configured; third parties' are left out.

    Raises AptError when apt knows none.
    """
    found = _index_targets()
    if not found and is_root():
        # Which repository is the distribution's own is only known from its downloaded lists.
        try:
            update()
        except CommandFailed as error:
            raise AptError(
                "apt-get update failed", problems=error.output.strip().splitlines()[-6:]
            ) from error
        found = _index_targets()
    if not found:
        raise AptError(
            "apt knows no repository of this distribution",
            hint="check /etc/apt/sources.list and /etc/apt/sources.list.d, then `apt-get update`",
        )
    return found


def _index_targets() -> tuple[Mirror, ...]:
    listed = process.run(
        [
            *("apt-get", "indextargets", "--format"),
            "$(ORIGIN)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(SIGNED_BY)",
            "Created-By: Packages",
        ],
        timeout=60,
        check=False,
    )
    return parse_index_targets(listed.stdout, origin=distribution().family)


def parse_index_targets(listed: str, *, origin: str) -> tuple[Mirror, ...]:
    """The mirrors of ``origin`` (compared without case) in the output of apt-get indextargets."""
    found = []
    for line in listed.splitlines():
        fields = line.split("|")
        if len(fields) != 5 or fields[0].lower() != origin.lower():  # noqa: PLR2004 - as asked for
            continue
        _, uri, release, component, signed_by = fields
        # apt leaves a field that has no value as it stands in the format.
        key = signed_by if signed_by.startswith("/") else ""
        found.append(Mirror(uri=uri, release=release, component=component, signed_by=key))
    return tuple(dict.fromkeys(found))


def download(path: str, *, sha256: str, target: Path) -> bool:
    """Download ``path`` of one of the mirrors to ``target``, its digest checked by apt's helper.

    apt's own client is used because it knows the proxies and credentials that apt is set up with.
    Returns False when no mirror has that file with that digest.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + files.PARTIAL)
    for uri in dict.fromkeys(mirror.uri for mirror in mirrors()):
        partial.unlink(missing_ok=True)
        process.run(
            [_APT_HELPER, "download-file", f"{uri}{path}", partial, f"SHA256:{sha256}"],
            timeout=_DOWNLOAD_TIMEOUT,
            check=False,
        )
        if partial.exists() and files.sha256(partial) == sha256:
            partial.chmod(0o644)
            partial.replace(target)
            return True
    partial.unlink(missing_ok=True)
    return False


def download_packages(names: Sequence[str], directory: Path, *, status: Path) -> tuple[Path, ...]:
    """Download the packages with all that they need, except what ``status`` lists.

    ``status`` is a file as dpkg keeps it. apt checks what it downloads by its signed lists. Raises
    CommandFailed.
    """
    (directory / "partial").mkdir(parents=True, exist_ok=True)
    argv = [
        *("apt-get", "install", "--yes", "--no-install-recommends", "--download-only"),
        *("--option", f"Dir::State::status={status}"),
        *("--option", f"Dir::Cache::archives={directory}", "--option", "Debug::NoLocking=true"),
        *names,
    ]
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    if process.run(argv, env=quiet, timeout=_APT_TIMEOUT, check=False).returncode != 0:
        update()
        process.run(argv, env=quiet, timeout=_APT_TIMEOUT)
    shutil.rmtree(directory / "partial")
    return tuple(sorted(directory.glob("*.deb")))


def copyright_of(package: Path) -> Iterator[tuple[str, str]]:
    """The name of a package file, with what it says of its licence where it does."""
    name = package.name.partition("_")[0]
    unpacked = package.with_suffix("")
    process.run(["dpkg-deb", "--extract", package, unpacked], timeout=_DOWNLOAD_TIMEOUT)
    told = unpacked / "usr" / "share" / "doc" / name / "copyright"
    if told.is_file() and told.resolve().is_relative_to(unpacked.resolve()):
        yield name, told.read_text(encoding="utf-8", errors="replace")
    shutil.rmtree(unpacked)


def make_base(packages: Sequence[str], target: Path, *, log: Path) -> None:
    """Write a file system of this machine's own suite, with ``packages``, as a tar to ``target``.

    Raises CommandFailed.
    """
    sources = "".join(f"{mirror.line}\n" for mirror in mirrors())
    options = [f"--aptopt={option}" for option in _apt_proxies()]
    options += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _UNUSED]
    target.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own: the mmdebstrap of a run that was killed may still be writing.
    partial = target.with_name(f"{target.name}.{os.getpid()}{files.PARTIAL}")
    process.run(
        [
            *("mmdebstrap", "--mode=root", "--variant=minbase", "--format=tar"),
            f"--include={','.join(packages)}",
            *options,
            *(distribution().suite, partial, "-"),
        ],
        env={"SOURCE_DATE_EPOCH": _BASE_EPOCH, "DEBIAN_FRONTEND": "noninteractive"},
        stdin=sources,
        log=log,
        timeout=_APT_TIMEOUT,
    )
    partial.replace(target)


def _apt_proxies() -> list[str]:
    """The proxies of the host's apt, which mmdebstrap would not read."""
    dumped = process.run(["apt-config", "dump"], timeout=60, check=False).stdout
    return [
        line.rstrip(";")
        for line in dumped.splitlines()
        if line.lower().startswith(("acquire::http::proxy ", "acquire::https::proxy "))
    ]


def installed_packages(base: Path) -> tuple[str, ...]:
    """The packages in a base file system, each as ``name=version``, sorted."""
    with tarfile.open(base) as tar:
        for member in tar:
            if member.name.removeprefix("./") == "var/lib/dpkg/status":
                file = tar.extractfile(member)
                status = file.read().decode() if file else ""
                return parse_status(status)
    return ()


def parse_status(status: str) -> tuple[str, ...]:
    """``name=version`` of every installed package in the text of a dpkg status file, sorted."""
    found = []
    for paragraph in status.split("\n\n"):
        fields = dict(
            line.split(": ", 1)
            for line in paragraph.splitlines()
            if ": " in line and not line.startswith(" ")
        )
        if fields.get("Status", "").endswith(" installed"):
            found.append(f"{fields['Package']}={fields['Version']}")
    return tuple(sorted(found))
