"""Which wheel an installer takes, and what this alone tells: also of two real locks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from freewheel.audit import choosing
from freewheel.audit.available import Answer, Index, Offer
from freewheel.audit.choosing import Choice
from freewheel.audit.inputs import reading
from freewheel.audit.inputs.locked import Locked, LockedFile, Selection
from freewheel.audit.target import Target
from freewheel.base import files
from freewheel.build.source import Places
from tests.unit.wheelmaker import make_wheel

LINUX = Target("cp314t", "manylinux_x86_64")
RECORDED = Path(__file__).with_name("recorded")
SHARED = Path(__file__).parents[3] / "shared" / "locks"

T_WHEEL = "spam-1.0-cp314-cp314t-manylinux_2_17_x86_64.whl"
GIL_WHEEL = "spam-1.0-cp314-cp314-manylinux_2_17_x86_64.whl"
ABI3_WHEEL = "spam-1.0-cp39-abi3-manylinux_2_17_x86_64.whl"
ABI3T_WHEEL = "spam-1.0-cp315-abi3t-manylinux_2_17_x86_64.whl"
ANY_WHEEL = "spam-1.0-py3-none-any.whl"
MAC_WHEEL = "spam-1.0-cp314-cp314t-macosx_11_0_arm64.whl"
SDIST = "spam-1.0.tar.gz"


class Recorded:
    """An index's answers, by file name."""

    def __init__(self, files: Mapping[str, Iterable[str]], problem: str = "") -> None:
        self.files = files
        self.problem = problem
        self.asked: set[str] = set()

    def ask(self, names: Iterable[str]) -> Mapping[str, Answer]:
        wanted = list(names)
        self.asked |= set(wanted)
        return {
            name: Answer(
                offers=tuple(Offer(filename=f, url="") for f in self.files.get(name, ())),
                problem=self.problem,
            )
            for name in wanted
        }


def choose(
    *files: str,
    target: Target = LINUX,
    index: Iterable[str] = (),
    complete: bool = True,
    version: str = "1.0",
) -> Choice:
    entry = Locked(
        name="spam",
        version=version,
        origin="a lock",
        files=tuple(LockedFile(name=name) for name in files),
        complete=complete,
    )
    (found,) = choosing.choose([entry], target, Recorded({"spam": index}))
    return found


def chosen(choice: Choice) -> str:
    return choice.wheel.name.filename if choice.wheel else ""


def test_the_wheel_is_the_one_that_an_installer_takes() -> None:
    assert chosen(choose(SDIST, ANY_WHEEL, GIL_WHEEL, T_WHEEL)) == T_WHEEL
    assert chosen(choose(SDIST, ANY_WHEEL, GIL_WHEEL)) == ANY_WHEEL
    assert chosen(choose(SDIST, GIL_WHEEL, ABI3_WHEEL, MAC_WHEEL)) == ""
    assert chosen(choose(MAC_WHEEL, target=Target("cp314t", "macosx_arm64"))) == MAC_WHEEL


def test_the_stable_abi_of_free_threaded_interpreters_begins_with_3_15() -> None:
    newer = Target("cp315t", "manylinux_x86_64")

    assert chosen(choose(ABI3T_WHEEL, target=newer)) == ABI3T_WHEEL
    assert chosen(choose(ABI3T_WHEEL)) == ""
    assert chosen(choose(ABI3_WHEEL, target=newer)) == ""


def test_a_fallback_is_reported_by_who_gets_compiled_code_on_this_platform() -> None:
    assert choose(ANY_WHEEL, GIL_WHEEL, ABI3_WHEEL).compiled_for == ("cp314", "cp39+")
    assert choose(ANY_WHEEL, MAC_WHEEL).compiled_for == ()


def test_a_complete_lock_is_not_widened_by_the_index() -> None:
    closed = choose(GIL_WHEEL, index=[T_WHEEL, GIL_WHEEL])
    other = choose(GIL_WHEEL, index=[T_WHEEL, GIL_WHEEL], complete=False)

    assert chosen(closed) == ""
    assert chosen(other) == T_WHEEL
    assert other.wheel is not None
    assert other.wheel.relock


def test_the_nearest_newer_release_with_a_wheel_is_found() -> None:
    later = [T_WHEEL.replace("1.0", version) for version in ("2.0", "1.5", "3.0rc1")]

    assert choose(GIL_WHEEL, index=[*later, GIL_WHEEL.replace("1.0", "1.1")]).newer == "1.5"
    assert choose(GIL_WHEEL, index=[GIL_WHEEL]).newer == ""


def test_what_the_index_lost_is_reported() -> None:
    assert "does not have it" in choose(version="1.0").problems[0]
    assert "does not have release 1.0" in choose(index=[T_WHEEL.replace("1.0", "2.0")]).problems[0]


def test_files_with_none_of_the_digests_of_a_lock_are_not_taken(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "spam", "1.0", tag="py3-none-any")
    place = Places(indexes=(), find_links=(str(tmp_path),), certificates=None)
    entries = [
        Locked(name="spam", version="1.0", origin="a lock", hashes=frozenset({digest}))
        for digest in ("0" * 64, files.sha256(wheel))
    ]

    wrong, right = choosing.choose(entries, LINUX, Index(place, tmp_path / "kept"))

    assert wrong.wheel is None
    assert "digest" in wrong.problems[0]
    assert chosen(right) == wheel.name


def test_pure_python_that_is_listed_whole_needs_no_index() -> None:
    index = Recorded({})
    pure = Locked(
        name="pure", version="1", origin="", files=(LockedFile(name="pure-1-py3-none-any.whl"),)
    )
    compiled = Locked(name="spam", version="1.0", origin="", files=(LockedFile(name=T_WHEEL),))

    choosing.choose([pure, compiled], LINUX, index)

    assert index.asked == {"spam"}


def test_what_is_not_pinned_is_the_newest_that_fits_and_says_so() -> None:
    offers = [
        Offer(
            filename=T_WHEEL.replace("1.0", f"{n}.0"),
            url="",
            uploaded=datetime(2026, n, 1, tzinfo=UTC),
        )
        for n in (1, 2, 3)
    ]

    class Dated:
        def ask(self, names: Iterable[str]) -> Mapping[str, Answer]:
            return {name: Answer(offers=tuple(offers)) for name in names}

    free = Locked(name="spam", version="", origin="", wanted=SpecifierSet("<3"))
    dated = Locked(name="spam", version="", origin="", before=datetime(2026, 1, 20, tzinfo=UTC))

    first, second = choosing.choose([free, dated], LINUX, Dated())

    assert (first.version, second.version) == ("2.0", "1.0")
    assert "<3" in first.assumed
    assert "2026-01-20" in second.assumed


def test_an_index_of_files_is_asked_like_any_other(tmp_path: Path) -> None:
    make_wheel(tmp_path / "links", "spam", "1.0")
    index = Index(
        Places(indexes=(), find_links=(str(tmp_path / "links"),), certificates=None),
        tmp_path / "kept",
    )

    assert [offer.filename for offer in index.ask(["spam"])["spam"].offers] == [T_WHEEL]
    assert index.ask(["ham"])["ham"] == Answer()


def test_an_index_that_does_not_answer_is_reported_and_not_kept(tmp_path: Path) -> None:
    index = Index(
        Places(indexes=("http://127.0.0.1:9/simple",), find_links=(), certificates=None),
        tmp_path / "kept",
    )

    answer = index.ask(["spam"])["spam"]

    assert "did not answer for spam" in answer.problem
    assert not list(tmp_path.rglob("*.json"))


# ---------------------------------------------------------------------------------- two real locks

NO_WHEEL = {
    "saleor": "bcrypt deptry google-crc32c grpcio httptools markupsafe orjson promise psutil "
    "psycopg-binary pybars3 pymeta3 pytest-django-queries pywatchman rx uvloop",
    "paperless": "autobahn brotli langdetect pikepdf py-ubjson safetensors tantivy tokenizers "
    "tornado uharfbuzz zensical zope-interface zstandard",
}
FALLBACK = {
    "saleor": "charset-normalizer debugpy mypy protobuf websockets",
    "paperless": "cbor2 charset-normalizer",
}
COMPILED = {
    "saleor": "cffi coverage cryptography lxml memray nh3 pillow pycurl pydantic-core pyyaml ruff "
    "watchfiles wrapt",
    "paperless": "aiohttp cffi coverage cryptography fonttools frozenlist greenlet hf-xet hiredis "
    "ijson jiter lxml markupsafe msgpack multidict numpy pi-heif pillow prek propcache "
    "pydantic-core pypdfium2 pywavelets pyyaml rapidfuzz regex rpds-py ruff scikit-learn scipy "
    "setproctitle sqlalchemy sqlite-vec tiktoken time-machine tomli torch ujson watchfiles wrapt "
    "yarl zxing-cpp",
}


@pytest.mark.skipif(not SHARED.is_dir(), reason="the two real locks are not beside this checkout")
@pytest.mark.parametrize("lock", ["saleor", "paperless"])
def test_the_real_locks_have_the_expected_wheels(lock: str) -> None:
    answers = json.loads((RECORDED / f"{lock}.json").read_text(encoding="utf-8"))
    given = reading.read(SHARED / f"{lock}.uv.lock", LINUX, Selection())

    choices = choosing.choose(given.distributions, LINUX, Recorded(answers))

    without = [c.locked.name for c in choices if c.wheel is None]
    compiled = [c.locked.name for c in choices if c.compiled]
    fallback = [c.locked.name for c in choices if c.wheel and not c.compiled and c.compiled_for]
    assert without == NO_WHEEL[lock].split()
    assert fallback == FALLBACK[lock].split()
    assert compiled == COMPILED[lock].split()
