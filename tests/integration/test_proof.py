"""The proof: each patch against the wheel without it, and what is published only after it."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import time
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest

from freewheel.base import files
from freewheel.base.workspace import share_cache
from freewheel.build import buildinfo
from freewheel.build.patches import read_series
from freewheel.proof import certificate
from freewheel.proof.programs import Outcome, load_programs
from freewheel.proof.races import sanitizer
from freewheel.proof.races.sanitizer import SanitizedRun, SanitizerResult
from freewheel.proof.result_cache import ResultCache
from freewheel.recipe.pythons import DEFAULT
from freewheel.recipe.recipe import Release, choose_recipe, load_recipes
from tests.integration.conftest import NEWEST, Builder, Checkout, copy_wheels, make_checkout

pytestmark = pytest.mark.integration

# What every probe says of itself, with a body that never sees anything.
BLIND = re.compile(r'(?s)(# ///\n)""".*')


@pytest.mark.parametrize("release", NEWEST)
def test_every_patch_of_a_release_is_needed_and_works(built: Builder, release: Release) -> None:
    record = built.patched(release.project)
    built.baseline(release.project)
    built.freewheel("prove", release.project, "--quick")
    found = certificate.read(certificate.path_of(record.wheel))

    assert list(certificate.problems_of(record.wheel, found)) == []
    claimed = {defect for patch in read_series(release) for defect in patch.defects}
    mended = {defect.id: defect for defect in found.defects if defect.verdict == "proven"}
    assert mended.keys() == claimed
    for defect in mended.values():
        assert defect.baseline.failures > 0
        assert defect.patched.failures == 0
        assert defect.chance <= 5e-3
    assert all(stress.patched.endings == {"pass": 1} for stress in found.stress)


def test_the_full_proof_rules_out_chance(proven: Checkout) -> None:
    record = proven.patched("httptools")
    found = certificate.read(certificate.path_of(record.wheel))

    assert found.kind == "full"
    assert all(one.chance <= 1e-6 for one in found.defects if one.verdict == "proven")
    assert [suite.name for suite in found.suites] == ["ordinary", "parallel"]
    assert all(suite.patched.get("passed", 0) > 0 for suite in found.suites)


def test_the_page_speaks_for_the_wheel(proven: Checkout) -> None:
    page = (proven.workspace.report / "index.html").read_text(encoding="utf-8")

    assert proven.patched("httptools").sha256 in page
    assert "not certified" not in page


def test_the_static_index_has_the_certificates(proven: Checkout) -> None:
    record = proven.patched("httptools")
    beside = certificate.path_of(proven.workspace.simple / "httptools" / record.wheel.name)

    assert beside.read_bytes() == certificate.path_of(record.wheel).read_bytes()


@pytest.fixture
def mine(built: Builder, tmp_path: Path) -> Checkout:
    """A checkout to change, with the wheels of httptools; no certificate, no results kept."""
    built.patched("httptools")
    built.baseline("httptools")
    root = tmp_path / "mine"
    checkout = make_checkout(root, cache=tmp_path / "cache", data=tmp_path / "data", copy=True)
    share_cache(built.workspace.cache, checkout.workspace.cache)
    copy_wheels(built, checkout, f"httptools-{built.release('httptools').version}*")
    for path in checkout.workspace.wheels.glob(f"*{certificate.SUFFIX}"):
        path.unlink()
    return checkout


def test_a_wheel_with_a_known_race_has_no_certificate(mine: Checkout) -> None:
    workspace, record = mine.workspace, mine.patched("httptools")
    recipe = choose_recipe(load_recipes(workspace.recipes, workspace.patches), "httptools")
    release = recipe.default_release
    programs = load_programs(workspace.probes, "httptools")
    about = sanitizer.subject(release, read_series(release), programs, DEFAULT)
    found = SanitizerResult(
        project="httptools",
        version=release.local_version,
        baseline=False,
        python="3.14.7",
        clang="22.1.0",
        runs=(
            SanitizedRun(
                program="H1",
                outcome=Outcome.CRASH,
                signal="SIGSEGV",
                declined=False,
                seconds=1.0,
                reports=0,
            ),
        ),
        races=(),
        suppressed=(),
        broken=(),
    )
    ResultCache(workspace.proof).write(about, sanitizer.RESULT, found)
    certificate.path_of(record.wheel).write_text("{}", encoding="utf-8")

    said = mine.freewheel("prove", "httptools", "--quick", code=42)

    assert "ThreadSanitizer: H1: crash SIGSEGV" in said
    assert not certificate.path_of(record.wheel).exists()


def test_a_probe_that_always_passes_makes_its_patch_unproven(mine: Checkout) -> None:
    probe = mine.workspace.probes / "httptools" / "H2.py"
    text, changed = BLIND.subn(r"\1", probe.read_text(encoding="utf-8"))
    assert changed == 1
    probe.write_text(text, encoding="utf-8")
    wheel = mine.patched("httptools").wheel
    certificate.path_of(wheel).write_text("{}", encoding="utf-8")

    said = mine.freewheel("prove", "httptools", "--quick", code=42)

    assert re.search(r"H2: unproven: the baseline wheel passes all \d+ runs", said)
    page = (mine.workspace.report / "index.html").read_text(encoding="utf-8")
    assert re.search(r"unproven</span> the baseline wheel passes all \d+ runs", page)
    patches = len(list((mine.workspace.patches / "httptools" / "0.9.0").glob("*.patch")))
    assert len(re.findall(r"^HP?\d .* proven$", said, re.MULTILINE)) == patches - 1  # all but H2
    assert not certificate.path_of(wheel).exists()
    assert "no certificate" in mine.freewheel("publish", "httptools", code=43)


def test_a_patch_without_a_probe_stops_before_anything_is_built(mine: Checkout) -> None:
    (mine.workspace.probes / "httptools" / "H3.py").unlink()
    shutil.rmtree(mine.workspace.wheels)

    said = mine.freewheel("prove", "httptools", code=40)

    assert "0004-hold-the-memoryview.patch fixes H3, for which there is no probe" in said
    assert not mine.workspace.wheels.exists()


def test_bytes_that_changed_after_certification_are_refused(proven: Checkout) -> None:
    record = proven.patched("httptools")
    beside = record.wheel.with_name(record.wheel.name + buildinfo.SUFFIX)
    kept = record.wheel.read_bytes(), beside.read_bytes()
    try:
        # As if somebody had built it again in secret: even its buildinfo is right.
        record.wheel.write_bytes(recompressed(kept[0]))
        digest, size = files.sha256(record.wheel), record.wheel.stat().st_size
        text = beside.read_text(encoding="utf-8").replace(record.sha256, digest)
        beside.write_text(text.replace(f'"size": {record.size}', f'"size": {size}'))
        said = proven.freewheel("publish", "httptools", code=17)
    finally:
        record.wheel.write_bytes(kept[0])
        beside.write_bytes(kept[1])

    assert "FW304" in said
    assert f"it is about other bytes: SHA-256 {record.sha256}, the wheel's is {digest}" in said


def recompressed(wheel: bytes) -> bytes:
    """The same members in another zip file."""
    changed = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(wheel)) as before,
        zipfile.ZipFile(changed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as after,
    ):
        for item in before.infolist():
            after.writestr(item, before.read(item))
    return changed.getvalue()


def test_a_proof_survives_kill_and_goes_on_where_it_was(mine: Checkout) -> None:
    words = mine.command("prove", "httptools", "--quick")
    child = subprocess.Popen(
        words,
        cwd=mine.workspace.root,
        env=mine.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    kept = mine.workspace.quick_proof
    deadline = time.monotonic() + 120
    while not list(kept.glob("httptools-H*.json")):
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    before = kept_runs(kept)
    wheel = mine.patched("httptools").wheel
    assert not certificate.path_of(wheel).exists()

    mine.freewheel("prove", "httptools", "--quick")

    assert certificate.read(certificate.path_of(wheel)).kind == "quick"
    after = kept_runs(kept)
    assert before
    for name, runs in before.items():
        assert after[name][: len(runs)] == runs
    assert list(mine.workspace.work.glob("proof-*")) == []


def kept_runs(directory: Path) -> dict[str, list[object]]:
    """The runs that are kept, by the file they are kept in."""
    return {
        path.name: json.loads(path.read_text(encoding="utf-8"))["result"]
        for path in directory.glob("*.json")
    }
