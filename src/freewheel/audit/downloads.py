"""Wheels on disk: downloaded, their digests checked, and unpacked so that they can be imported."""

from __future__ import annotations

import os
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.parser import HeaderParser
from functools import cache
from pathlib import Path

import requests
import stamina

from freewheel.audit.available import session
from freewheel.audit.choosing import Candidate
from freewheel.audit.inputs import locked
from freewheel.base import files
from freewheel.build.source import Places, local_path

_AT_ONCE = 6  # downloads
_ATTEMPTS = 3
_TIMEOUT = 60.0  # seconds without a byte
_CHUNK = 1 << 20  # bytes
_LARGEST = 8 << 30  # bytes that a wheel may have when it is unpacked


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A wheel that lies unpacked in ``root``; ``digest`` is the wheel's."""

    root: Path
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why nothing of a wheel can be looked at, and what to do about it.

    ``intended`` says that the user asked for that.
    """

    reason: str
    remedy: str
    intended: bool = False


class Downloads:
    """The wheels that are kept in ``directory``, by digest."""

    def __init__(self, places: Places, directory: Path) -> None:
        self._wheels = directory / "wheels"
        self._trees = directory / "trees"
        self._session = session(places)

    def get(
        self, wheels: Mapping[str, Candidate], progress: Callable[[], None]
    ) -> dict[str, Tree | Failure]:
        """Each wheel unpacked, by the name it was asked for, or the reason why it is not."""

        def one(wheel: Candidate) -> Tree | Failure:
            found = self._one(wheel)
            progress()
            return found

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return dict(zip(wheels, pool.map(one, wheels.values()), strict=True))

    def beside(self, wheel: Candidate, suffix: str) -> bytes | None:
        """What lies beside a wheel on its index under its name and ``suffix``; None without."""
        for url in wheel.urls:
            if local_path(url) is not None:
                continue
            try:
                answer = self._session.get(url.partition("#")[0] + suffix, timeout=_TIMEOUT)
            except requests.RequestException:
                continue
            if answer.status_code == requests.codes.ok:
                return answer.content
        return None

    def _one(self, wheel: Candidate) -> Tree | Failure:
        try:
            return self._unpacked(wheel)
        except OSError as error:
            reason = f"{wheel.name.filename} cannot be kept: {error}"
            return Failure(reason=reason, remedy="make room, and audit again")

    def _unpacked(self, wheel: Candidate) -> Tree | Failure:
        if wheel.sha256 and (self._trees / wheel.sha256).is_dir():
            return Tree(root=self._trees / wheel.sha256, digest=wheel.sha256)
        path = self.file(wheel)
        if isinstance(path, Failure):
            return path
        digest = wheel.sha256 or files.sha256(path)
        target = self._trees / digest
        with files.locked(self._trees / f"{digest}.lock", what=f"unpacking {path.name}"):
            if not target.is_dir():
                partial = files.empty_directory(target.with_name(digest + files.PARTIAL))
                try:
                    _unpack(path, partial)
                except (zipfile.BadZipFile, zlib.error, ValueError, OSError) as error:
                    shutil.rmtree(partial)
                    return Failure(
                        reason=f"{path.name} cannot be unpacked: {error}",
                        remedy="do not install it; report it to whoever published it",
                    )
                partial.rename(target)
        return Tree(root=target, digest=digest)

    def file(self, wheel: Candidate) -> Path | Failure:
        """The wheel's file."""
        return self.fetched(wheel.name.filename, wheel.sha256, wheel.urls)

    def fetched(self, name: str, sha256: str, urls: Sequence[str]) -> Path | Failure:
        """A wheel or sdist, from the first place that has the bytes with the right digest."""
        problems: list[str] = []
        differs = False
        kept = self._wheels / sha256 / name
        if sha256 and kept.is_file() and files.sha256(kept) == sha256:
            return kept
        for url in urls:
            local = local_path(url)
            if local is not None and local.is_file() and not sha256:
                return local
            target = self._wheels / (sha256 or "unchecked") / name
            partial = target.with_name(f"{name}.{os.getpid()}{files.PARTIAL}")
            partial.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._bring(url, local, partial)
                came = files.sha256(partial)
                if sha256 in ("", came):
                    partial.replace(target)
                    return target
                differs = True
                problems.append(f"SHA-256 differs; expected {sha256}, came {came}")
            except (requests.RequestException, OSError) as error:
                problems.append(_said(error))
            finally:
                partial.unlink(missing_ok=True)
        why = "; ".join(dict.fromkeys(problems)) or "no place is known to download it from"
        return Failure(
            reason=f"{name} could not be downloaded: {why}",
            remedy="do not install it before you know why its bytes are not those of the lock"
            if differs
            else "check the network and the index that `pip config list` names, and audit again",
        )

    def _bring(self, url: str, local: Path | None, partial: Path) -> None:
        if local is not None:
            shutil.copyfile(local, partial)
            return
        for attempt in stamina.retry_context(on=_worth_another_try, attempts=_ATTEMPTS):
            with attempt, self._session.get(url, stream=True, timeout=_TIMEOUT) as answer:
                answer.raise_for_status()
                with partial.open("wb") as file:
                    for chunk in answer.iter_content(_CHUNK):
                        file.write(chunk)


def _worth_another_try(error: Exception) -> bool:
    if isinstance(error, requests.HTTPError):
        return error.response.status_code >= 500  # noqa: PLR2004  the server's own trouble
    return isinstance(error, requests.Timeout | requests.exceptions.ChunkedEncodingError)


def _said(error: Exception) -> str:
    if isinstance(error, requests.HTTPError):
        return f"HTTP status {error.response.status_code}"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return type(error).__name__ if isinstance(error, requests.RequestException) else str(error)


def _unpack(path: Path, directory: Path) -> None:
    """Lay out a wheel's files as an installer would, without scripts."""
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
        if size > _LARGEST:
            raise ValueError(f"it would have {size >> 30} GiB")
        archive.extractall(directory)  # which leaves no member outside
    for data in directory.glob("*.data"):
        for scheme in ("purelib", "platlib"):
            if (data / scheme).is_dir():
                shutil.copytree(data / scheme, directory, dirs_exist_ok=True)
        shutil.rmtree(data)


# ------------------------------------------------------------------------ what needs what


def names_in(root: Path) -> list[str]:
    """The files of an unpacked wheel, relative to its directory."""
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())


@cache
def requirements_in(root: Path) -> tuple[str, ...]:
    """The projects that an unpacked wheel's metadata names, those of its extras included."""
    found: list[str] = []
    for metadata in sorted(root.glob("*.dist-info/METADATA")):
        text = metadata.read_text(encoding="utf-8", errors="replace")
        found += locked.required(HeaderParser().parsestr(text).get_all("Requires-Dist", []))
    return tuple(found)


def closure(names: Sequence[str], needs: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """The names and all that they need, one by the other, as far as ``needs`` knows it."""
    found: dict[str, None] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = None
            waiting += needs.get(name, ())
    return tuple(sorted(found))
