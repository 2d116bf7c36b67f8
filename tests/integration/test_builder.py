"""The builder for real: an engine that starts containers, an image, the interpreter out of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from freewheel.base.workspace import Workspace, find_workspace
from freewheel.commands import doctor
from freewheel.machine.engine import (
    OWNER_LABEL,
    Engine,
    find_engine,
    remove_leftovers,
    this_process,
)
from freewheel.machine.image import BuilderImage, acceptable_identities, find_or_make_image
from freewheel.machine.interpreter import find_interpreter

pytestmark = pytest.mark.integration

TARGET = f"cp314t-manylinux_{os.uname().machine}"


@pytest.fixture(scope="module")
def workspace() -> Workspace:
    return find_workspace(Path(__file__).parents[2])


@pytest.fixture(scope="module")
def engine(workspace: Workspace) -> Engine:
    return find_engine(workspace, may_install=True)


@pytest.fixture(scope="module")
def image(workspace: Workspace, engine: Engine) -> BuilderImage:
    return find_or_make_image(workspace, engine, TARGET)


def inside(engine: Engine, image: BuilderImage, script: str) -> str:
    arguments = ("run", "--rm", "--network=none", *engine.create_args, image.reference)
    return engine.call(*arguments, "bash", "-c", script, timeout=120).stdout


def test_the_choice_of_an_engine_is_explained(engine: Engine) -> None:
    assert any("a container started" in reason for reason in engine.reasons)


def test_the_image_has_what_cibuildwheel_needs(engine: Engine, image: BuilderImage) -> None:
    said = inside(
        engine,
        image,
        "set -e; bin=/opt/python/cp314-cp314t/bin;"
        'test -x "$bin/pip"; "$bin/python" -m build --version; auditwheel --version;'
        "patchelf --version; /opt/python/cp39-cp39/bin/python -c 'print(\"utility\")';"
        "\"$bin/python\" -c 'import sys; print(sys.version_info[:2], sys._is_gil_enabled())'",
    )

    assert "utility" in said
    assert "(3, 14) False" in said


def test_the_image_is_one_that_freshness_accepts(image: BuilderImage) -> None:
    assert image.origin == "custom" or image.identity in acceptable_identities(TARGET)


def test_a_local_image_lists_what_it_was_made_of(engine: Engine, image: BuilderImage) -> None:
    if image.origin != "local":
        pytest.skip("the image was not made here")
    said = inside(engine, image, "sha256sum /freewheel-manifest.txt; cat /freewheel-manifest.txt")

    assert said.split()[0] == image.manifest
    assert f"specification={image.identity.partition(':')[2]}" in said
    assert "\ngcc=" in said


def test_the_image_is_found_again_without_work(
    workspace: Workspace, engine: Engine, image: BuilderImage
) -> None:
    assert find_or_make_image(workspace, engine, TARGET) == image


def test_the_interpreter_makes_environments(workspace: Workspace, tmp_path: Path) -> None:
    interpreter = find_interpreter(workspace)
    subprocess.run([interpreter.path, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"

    asked = "import sys, ssl, sqlite3, ctypes, lzma, bz2; print(sys._is_gil_enabled())"
    assert subprocess.check_output([python, "-c", asked], text=True).strip() == "False"
    assert subprocess.run([python, "-m", "pip", "--version"], check=False).returncode == 0


def containers(engine: Engine) -> list[str]:
    listed = engine.call("ps", "--all", "--quiet", "--no-trunc", "--filter", f"label={OWNER_LABEL}")
    return listed.stdout.split()


def test_only_the_containers_of_dead_runs_are_removed(engine: Engine, image: BuilderImage) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    here = this_process()
    label = f"--label={OWNER_LABEL}={dead.pid}:{here.started}:{here.place}"
    left = engine.call("create", "--network=none", label, image.reference).stdout.strip()
    ours = engine.call(
        "create", "--network=none", *engine.create_args, image.reference
    ).stdout.strip()
    try:
        remove_leftovers(engine)
        assert left not in containers(engine)
        assert ours in containers(engine)
    finally:
        engine.call("rm", "--force", ours)


def test_the_doctor_finds_what_a_build_would_use(
    workspace: Workspace, engine: Engine, image: BuilderImage
) -> None:
    find_interpreter(workspace)
    findings = {finding.topic: finding for finding in doctor.examine(workspace)}

    assert engine.name in findings["engine"].detail
    assert image.reference in findings["image for cp314t"].detail
    assert findings["interpreter for cp314t"].state == "chosen"
