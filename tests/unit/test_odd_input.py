"""Valid input, changed at random: an answer or one of our errors, never a traceback, never late."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import tarfile
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from freewheel.base import wheel_archive
from freewheel.base.errors import FreewheelError
from freewheel.base.tars import unpack_tar
from freewheel.build import buildinfo, index_pages, known_good, patches
from freewheel.build.static_checks import Expected, static_failures
from freewheel.proof import certificate
from freewheel.proof.make_certificate import issue
from freewheel.recipe.recipe import load_recipe
from freewheel.release import site
from tests.unit.proofmaker import make_evidence
from tests.unit.sbommaker import TARGET
from tests.unit.test_patches import DIFF, HEADER, SOURCE, release
from tests.unit.wheelmaker import make_wheel

ROOT = Path(__file__).parents[2]
TIMES = 1000
LATE = 5.0  # seconds
Reader = Callable[[Path], object]
ODD: tuple[Any, ...] = (
    *(None, True, -1, 0, 10**400, 1.5, "", "x", "\x00", "../../x", "\u202e", [], {}, [[]]),
    *("9" * 5000, {"x": {}}, ["x"], "1.0+ft.1", "é" * 300),
)


@st.composite
def changed_json(draw: st.DrawFn, text: str) -> bytes:
    """The document with one or a few of its values replaced, moved or taken away."""
    document = json.loads(text)
    for _ in range(draw(st.integers(1, 3))):
        place: Any = {"": document}
        key: Any = ""
        for _ in range(draw(st.integers(0, 5))):
            value = place[key]
            if not isinstance(value, dict | list) or not value:
                break
            place = value
            keys = sorted(value) if isinstance(value, dict) else range(len(value))
            key = draw(st.sampled_from(keys))
        if draw(st.booleans()) and key != "":
            place.pop(key)
        else:
            place[key] = deepcopy(draw(st.sampled_from(ODD)))
        document = place[""] if "" in place and key == "" else document
    return json.dumps(document).encode()


@st.composite
def changed_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """The bytes with some replaced, inserted, repeated or cut off."""
    made = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(made) - 1)))
        length = draw(st.integers(0, 40))
        match draw(st.integers(0, 3)):
            case 0:
                made[at : at + length] = draw(st.binary(max_size=8))
            case 1:
                made[at:at] = made[at : at + length] * draw(st.integers(1, 3))
            case 2:
                del made[at:]
            case _:
                made[at : at + 1] = bytes([draw(st.integers(0, 255))])
    return bytes(made)


@cache
def sources() -> dict[str, bytes]:
    """A valid document or archive of each kind."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name in ("p-1.0/setup.py", "p-1.0/PKG-INFO", "p-1.0/src/core.c"):
            info = tarfile.TarInfo(name)
            info.size = 100
            tar.addfile(info, io.BytesIO(bytes(100)))
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        for name in ("p/a.py", "p/b.py", "p-1.dist-info/METADATA", "p-1.dist-info/WHEEL"):
            archive.writestr(name, b"Name: p\nTag: py3-none-any\n" * 3)
    return {"tar": raw.getvalue(), "zip": zipped.getvalue()}


EXPECTED = Expected(
    project="demo", version="1.0", target=TARGET, import_name="demo", pure=False, grafts=()
)


def check_wheel(path: Path) -> None:
    list(static_failures(path, EXPECTED))


Prepared = tuple[st.SearchStrategy[bytes], Path, Reader]  # what is changed, its file, its reader


def a_recipe(tmp_path: Path) -> Prepared:
    text = (ROOT / "recipes" / "httptools.toml").read_bytes()
    path = tmp_path / "httptools.toml"
    return changed_bytes(text), path, lambda p: load_recipe(p, ROOT / "patches")


def a_patch(tmp_path: Path) -> Prepared:
    path = tmp_path / "0001-count.patch"
    number = iter(range(10**9))

    def applied(patch: Path) -> None:
        # A tree of its own for each: one that was applied stays so.
        tree = tmp_path / f"tree{next(number)}" / "speedy-1.0"
        (tree / "speedy").mkdir(parents=True)
        (tree / "speedy" / "core.py").write_text(SOURCE)
        wanted = release(patch)
        series = patches.read_series(wanted)
        if next(number) % 20 == 0:  # git is started many times
            patches.apply_series(tree, wanted, series)

    return changed_bytes((HEADER + DIFF).encode()), path, applied


def a_page(tmp_path: Path) -> Prepared:
    page = {
        "meta": {"api-version": "1.4"},
        "name": "demo",
        "files": [
            {
                "filename": "demo-1.0-py3-none-any.whl",
                "hashes": {"sha256": "0" * 64},
                "size": 1,
                "core-metadata": {"sha256": "0" * 64},
                "url": "x",
                "upload-time": "2026-01-01T00:00:00Z",
            }
        ],
    }
    (tmp_path / "demo").mkdir()
    path = tmp_path / "demo" / "index.json"
    return changed_json(json.dumps(page)), path, lambda p: index_pages.read(p.parent)


def a_certificate(tmp_path: Path) -> Prepared:
    evidence = make_evidence(tmp_path)
    wheel = evidence.patched.path
    path = certificate.write(wheel, issue(evidence))

    def judged(path: Path) -> object:
        return certificate.problems_of(wheel, certificate.read(path))

    return changed_json(path.read_text()), path, judged


def a_buildinfo(tmp_path: Path) -> Prepared:
    record = {
        "schema": 1,
        "wheel": "demo-1.0-py3-none-any.whl",
        "project": "demo",
        "version": "1.0",
        "sha256": "0" * 64,
        "size": 1,
        "details": {"x": ["y"]},
        "inputs": {"target": TARGET, "image": "x"},
    }
    return changed_json(json.dumps(record)), tmp_path / "x.json", buildinfo.read_record


def a_lock(tmp_path: Path) -> Prepared:
    text = (ROOT / "wheels" / "known-good.json").read_text()
    return changed_json(text), tmp_path / "known-good.json", known_good.read


def marks(tmp_path: Path) -> Prepared:
    text = b'[wheels]\n"demo-1.0-py3-none-any.whl" = "why"\n[projects.demo]\n'
    text += b'status = "archived"\nreason = "why"\n'
    return changed_bytes(text), tmp_path / "yanked.toml", site.read_marks


def unpacked(path: Path) -> None:
    shutil.rmtree(path.with_name("out"), ignore_errors=True)
    unpack_tar(path, path.with_name("out"))


def a_tar(tmp_path: Path) -> Prepared:
    contents = changed_bytes(sources()["tar"]).map(lambda content: gzip.compress(content, 1))
    return contents, tmp_path / "x.tar.gz", unpacked


def a_packed_tar(tmp_path: Path) -> Prepared:
    return changed_bytes(gzip.compress(sources()["tar"])), tmp_path / "x.tar.gz", unpacked


def a_zip(tmp_path: Path) -> Prepared:
    return changed_bytes(sources()["zip"]), tmp_path / "x.whl", wheel_archive.core_metadata


def a_wheel(tmp_path: Path) -> Prepared:
    wheel = make_wheel(tmp_path / "made", "demo", "1.0")
    return changed_bytes(wheel.read_bytes()), tmp_path / wheel.name, check_wheel


DOCUMENTS = {
    "recipe": a_recipe,
    "marks": marks,
    "page": a_page,
    "certificate": a_certificate,
    "buildinfo": a_buildinfo,
    "lock": a_lock,
}
OTHERS = {"patch": a_patch, "tar": a_tar, "packed tar": a_packed_tar, "zip": a_zip}
KINDS = {**DOCUMENTS, **OTHERS, "wheel": a_wheel}


@pytest.mark.parametrize("kind", KINDS)
def test_odd_input_is_answered(tmp_path: Path, kind: str) -> None:
    contents, path, reader = KINDS[kind](tmp_path)

    @settings(
        max_examples=TIMES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
    )
    @given(contents)
    def answered(content: bytes) -> None:
        path.write_bytes(content)
        started = time.monotonic()
        with suppress(FreewheelError):
            reader(path)
        assert time.monotonic() - started < LATE

    answered()


@pytest.mark.parametrize("kind", DOCUMENTS)
@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"\xef\xbb\xbf", b"\xff", b"[" * 100_000, b"{" * 100_000, b'{"a":' * 100_000),
        *(b"null", b"[]", b"{}", b"1", b'"x"', b"NaN", b"a" * 100_000, b"\x00" * 100),
        *(b"a = " + b"[" * 5000, b"a = " + b"9" * 5000, b"x" + b".x" * 5000 + b" = 1"),
    ],
    ids=lambda content: ascii(content[:12]),
)
def test_what_is_no_document_at_all(tmp_path: Path, kind: str, content: bytes) -> None:
    _, path, reader = KINDS[kind](tmp_path)
    path.write_bytes(content)
    with suppress(FreewheelError):
        reader(path)


@pytest.mark.parametrize("kind", DOCUMENTS)
@pytest.mark.parametrize("what", ["directory", "dangling", "circle", "pipe"])
def test_what_is_no_file(tmp_path: Path, kind: str, what: str) -> None:
    _, path, reader = KINDS[kind](tmp_path)
    path.unlink(missing_ok=True)
    match what:
        case "directory":
            path.mkdir()
        case "dangling":
            path.symlink_to(tmp_path / "nothing")
        case "circle":
            path.symlink_to(path)
        case _:
            os.mkfifo(path)
    with suppress(FreewheelError):
        reader(path)
