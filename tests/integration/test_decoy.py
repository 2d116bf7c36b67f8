"""What docs/consume.md says, done beside an attacker's index: it installs ours, or nothing.

Each refusal must say why, and the traps that the document warns of must be real ones.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from uv import find_uv_bin

from freewheel.machine.interpreter import Interpreter
from tests.application.stacks import STACKS, ours
from tests.integration import decoy
from tests.integration.conftest import ROOT, Builder, make_environment
from tests.integration.decoy import CHANGED, GONE, WITHHELD, Indexes
from tests.unit.wheelmaker import ANY_TAG, make_wheel

pytestmark = pytest.mark.integration

_DOCUMENT = (ROOT / "docs" / "consume.md").read_text("utf-8")
_INDEX = "https://index.example.com/simple/"
# Without SQLAlchemy, which requires a project that neither index has.
_STACK = replace(
    STACKS[0],
    releases={k: v for k, v in STACKS[0].releases.items() if k != "sqlalchemy"},
)
_MISMATCH = {"pip": "DO NOT MATCH THE HASHES", "uv": "Hash mismatch"}


@dataclass(frozen=True)
class Consumer:
    """A user with the files of the document, and with the indexes of the test."""

    directory: Path
    interpreter: Interpreter
    indexes: Indexes

    @property
    def python(self) -> Path:
        environment = self.directory / "environment"
        if not environment.exists():
            make_environment(environment, self.interpreter)
        return environment / "bin" / "python"

    def do(self, line: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Type a line; ``stdout`` is all that it says. No configuration but ``variables``."""
        words = shlex.split(line.replace(_INDEX, self.indexes.ours_url))
        if words[:2] in (["uv", "lock"], ["uv", "sync"]):
            # Not by UV_PYTHON, which `uv pip` takes for the place to install into.
            words += ["--python", str(self.interpreter.path)]
        program: dict[str, list[str | Path]] = {
            "pip": [sys.executable, "-m", "pip", "--python", self.python],
            "uv": [find_uv_bin()],
        }
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "UV_", "PYTHON"))}
        environment = {
            **kept,
            "HOME": str(self.directory),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_CACHE_DIR": "1",
            "PIP_NO_INPUT": "1",
            "UV_CACHE_DIR": str(self.directory / "cache"),
            "VIRTUAL_ENV": str(self.python.parents[1]),
            **variables,
        }
        return subprocess.run(
            [*program[words[0]], *words[1:]],
            cwd=self.directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=120,
        )

    def installed(self, environment: str = "environment") -> dict[str, str]:
        """What is in an environment: versions by project."""
        found = (self.directory / environment).glob("lib/*/site-packages/*.dist-info")
        return dict(path.name.removesuffix(".dist-info").split("-") for path in found)


@pytest.fixture(scope="module")
def pins(built: Builder) -> dict[str, str]:
    """The versions of ours."""
    for project, release in _STACK.releases.items():
        built.patched(project, release)
    lines = "\n".join(ours(_STACK, built.workspace))
    return dict(re.findall(r"^(\S+)==(\S+)", lines, re.MULTILINE))


@pytest.fixture(scope="module")
def served(
    built: Builder, pins: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Indexes]:
    """Ours, and an attacker's with higher versions and the same names."""
    attacker = tmp_path_factory.mktemp("attacker")
    for project, version in pins.items():
        public = version.partition("+")[0]
        for claimed in (public, f"{public}+ft.99", "99.0"):
            make_wheel(attacker, project, claimed, tag=ANY_TAG)
        real = next(built.workspace.wheels.glob(f"{project}-{version}-*.whl")).stem
        make_wheel(attacker, project, version, tag=real.removeprefix(f"{project}-{version}-"))
    make_wheel(attacker, "ledger", "1.0", tag=ANY_TAG, metadata={"Requires-Dist": list(pins)})
    with decoy.serve(Indexes(ours=built.workspace.simple, attacker=attacker)) as indexes:
        yield indexes


@pytest.fixture
def consumer(served: Indexes, built: Builder, interpreter: Interpreter, tmp_path: Path) -> Consumer:
    served.wrong = None
    lines = "".join(f"{line}\n" for line in ours(_STACK, built.workspace))
    (tmp_path / "ours.txt").write_text(lines, "utf-8")
    return Consumer(directory=tmp_path, interpreter=interpreter, indexes=served)


def _documented(installer: str) -> str:
    """The line of the document that installs ours."""
    start = {"pip": "pip install", "uv": "uv pip install"}[installer]
    found = [
        line
        for block in re.findall(r"^```sh\n(.*?)^```", _DOCUMENT, re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
        if line.startswith(start) and line.endswith("-r ours.txt")
    ]
    assert len(found) == 1
    return str(found[0])


# --------------------------------------------------------------------------- pip, and uv likewise


@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_ours_are_installed(consumer: Consumer, pins: dict[str, str], installer: str) -> None:
    done = consumer.do(_documented(installer))

    assert done.returncode == 0, done.stdout
    assert consumer.installed() == pins


def test_pip_takes_ours_beside_an_attackers_index(consumer: Consumer, pins: dict[str, str]) -> None:
    done = consumer.do(_documented("pip"), PIP_EXTRA_INDEX_URL=consumer.indexes.attacker_url)

    assert done.returncode == 0, done.stdout
    assert consumer.indexes.attacker_url in done.stdout
    assert consumer.installed() == pins


@pytest.mark.parametrize(
    ("installer", "wrong"),
    [
        *(("pip", wrong) for wrong in (GONE, WITHHELD, CHANGED)),
        *(("uv", wrong) for wrong in (None, GONE, WITHHELD, CHANGED)),
    ],
)
def test_an_attackers_file_of_the_same_name_is_refused(
    consumer: Consumer, installer: str, wrong: str | None
) -> None:
    consumer.indexes.wrong = wrong
    attacker = consumer.indexes.attacker_url

    done = consumer.do(_documented(installer), PIP_EXTRA_INDEX_URL=attacker, UV_INDEX=attacker)

    assert done.returncode != 0
    assert _MISMATCH[installer] in done.stdout
    assert consumer.installed() == {}


@pytest.mark.parametrize(
    ("installer", "wrong", "why"),
    [
        ("pip", GONE, "No matching distribution found"),
        ("pip", WITHHELD, "401 Client Error"),
        ("pip", CHANGED, _MISMATCH["pip"]),
        ("uv", GONE, "was not found in the package registry"),
        ("uv", WITHHELD, "401 Unauthorized"),
        ("uv", CHANGED, _MISMATCH["uv"]),
    ],
)
def test_without_ours_nothing_is_installed(
    consumer: Consumer, installer: str, wrong: str, why: str
) -> None:
    consumer.indexes.wrong = wrong
    more = " -vv" if (installer, wrong) == ("pip", WITHHELD) else ""

    done = consumer.do(_documented(installer) + more)

    assert done.returncode != 0
    assert why in done.stdout
    assert consumer.installed() == {}


@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_credentials_come_from_netrc(
    consumer: Consumer, pins: dict[str, str], installer: str
) -> None:
    consumer.indexes.wrong = WITHHELD
    netrc = consumer.directory / ".netrc"
    netrc.touch(mode=0o600)
    netrc.write_text(f"machine 127.0.0.1 login {decoy.USER} password {decoy.PASSWORD}\n", "utf-8")

    done = consumer.do(_documented(installer))

    assert done.returncode == 0, done.stdout
    assert decoy.PASSWORD not in done.stdout
    assert consumer.installed() == pins


# --------------------------------------------------------------------------------- a uv project


@pytest.fixture
def project(consumer: Consumer, pins: dict[str, str]) -> Path:
    """A project that needs ours only indirectly, with the document's settings."""
    blocks = re.findall(r"^```toml\n(.*?)^```", _DOCUMENT, re.MULTILINE | re.DOTALL)
    settings = next(block for block in blocks if "[tool.uv]" in block)
    # The application has three of our projects; the document names all.
    settings = re.sub(
        r'"([\w-]+)==[^"]+"',
        lambda pin: f'"{pin[1]}=={pins[pin[1]]}"' if pin[1] in pins else '"ledger"',
        settings,
    )
    settings = re.sub(
        r"(?m)^([\w-]+) = \{ index = .*\n", lambda one: one[0] if one[1] in pins else "", settings
    )
    settings = settings.replace(_INDEX, consumer.indexes.ours_url)
    path = consumer.directory / "pyproject.toml"
    path.write_text(
        '[project]\nname = "application"\nversion = "1"\nrequires-python = ">=3.14"\n'
        f'dependencies = ["ledger"]\n{settings}'
        f'[[tool.uv.index]]\nurl = "{consumer.indexes.attacker_url}"\ndefault = true\n',
        encoding="utf-8",
    )
    return path


def test_a_uv_project_gets_ours_for_what_a_dependency_requires(
    consumer: Consumer, project: Path, pins: dict[str, str]
) -> None:
    assert consumer.do("uv lock").returncode == 0
    done = consumer.do("uv sync --locked")

    assert done.returncode == 0, done.stdout
    assert consumer.installed(".venv") == {**pins, "ledger": "1.0"}
    assert project.with_name("uv.lock").read_text("utf-8").count(consumer.indexes.ours_url) >= 3


@pytest.mark.parametrize(
    ("wrong", "why"),
    [(GONE, "was not found in the package registry"), (WITHHELD, "401 Unauthorized")],
)
@pytest.mark.usefixtures("project")
def test_a_uv_project_is_not_locked_without_ours(consumer: Consumer, wrong: str, why: str) -> None:
    consumer.indexes.wrong = wrong

    done = consumer.do("uv lock")

    assert done.returncode != 0
    assert why in done.stdout
    assert not (consumer.directory / "uv.lock").exists()


@pytest.mark.parametrize(
    ("wrong", "why"), [(GONE, "404"), (WITHHELD, "401"), (CHANGED, _MISMATCH["uv"])]
)
@pytest.mark.usefixtures("project")
def test_a_locked_uv_project_gets_ours_or_nothing(consumer: Consumer, wrong: str, why: str) -> None:
    assert consumer.do("uv lock").returncode == 0
    consumer.indexes.wrong = wrong

    # What was fetched for the lock must not serve: wheels are what is asked for here.
    done = consumer.do("uv sync --frozen", UV_CACHE_DIR=str(consumer.directory / "another"))

    assert done.returncode != 0
    assert why in done.stdout
    assert consumer.installed(".venv") == {}


# ------------------------------------------------------------------------------------- the traps


def test_two_indexes_and_the_higher_version_wins(consumer: Consumer) -> None:
    both = f"--index-url {consumer.indexes.attacker_url} --extra-index-url {_INDEX}"

    assert consumer.do(f"pip install {both} ledger").returncode == 0

    assert set(consumer.installed().values()) == {"1.0", "99.0"}


def test_a_pin_of_the_public_version_falls_back_without_a_word(
    consumer: Consumer, pins: dict[str, str]
) -> None:
    consumer.indexes.wrong = GONE
    public = pins["greenlet"].partition("+")[0]
    both = f"--index-url {_INDEX} --extra-index-url {consumer.indexes.attacker_url}"

    done = consumer.do(f"pip install {both} greenlet=={public}")

    assert done.returncode == 0
    assert "404" not in done.stdout
    assert consumer.installed()["greenlet"] != pins["greenlet"]


def test_constraints_without_hashes_let_the_same_name_in(
    consumer: Consumer, pins: dict[str, str]
) -> None:
    consumer.indexes.wrong = GONE
    constraints = "".join(f"{project}=={version}\n" for project, version in pins.items())
    (consumer.directory / "pins.txt").write_text(constraints, "utf-8")
    both = f"--index-url {_INDEX} --extra-index-url {consumer.indexes.attacker_url}"

    done = consumer.do(f"pip install {both} -c pins.txt ledger")

    assert done.returncode == 0
    assert consumer.installed() == {**pins, "ledger": "1.0"}
    site = next((consumer.directory / "environment").glob("lib/*/site-packages"))
    assert [path.name for path in (site / "greenlet").glob("*.so")] == []


def test_an_eager_upgrade_replaces_ours(consumer: Consumer, pins: dict[str, str]) -> None:
    assert consumer.do(_documented("pip")).returncode == 0
    upgrade = f"pip install --upgrade --index-url {consumer.indexes.attacker_url} ledger"

    assert consumer.do(upgrade).returncode == 0
    assert consumer.installed() == {**pins, "ledger": "1.0"}
    assert consumer.do(f"{upgrade} --upgrade-strategy eager").returncode == 0
    assert consumer.installed()["greenlet"] == "99.0"
