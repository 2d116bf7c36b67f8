"""The workflows: parsed, and held against the sessions, the matrix and the rules of security."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from freewheel.recipe.recipe import load_recipes
from freewheel.release.matrix import Gate, entries

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted(GITHUB.glob("workflows/*.yml"))
ACTIONS = sorted(GITHUB.glob("actions/*/action.yml"))
ENTRIES = list(entries(load_recipes(ROOT / "recipes", ROOT / "patches")))
# All that a step may do.
ISSUE = "bash .github/issue.sh "  # ten lines of gh; the one step that is no session
PIP = "python -m pip install --quiet --disable-pip-version-check --require-hashes -r"
SESSION = re.compile(r"""^(sudo --preserve-env env "PATH=\$PATH" )?nox -s (?P<name>"[^"]+"|\S+)""")
KNOWN = {
    "actions/attest-build-provenance",
    "actions/checkout",
    "actions/deploy-pages",
    "actions/download-artifact",
    "actions/setup-python",
    "actions/upload-artifact",
    "actions/upload-pages-artifact",
}


def parsed(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe").load(path)
    return found


def jobs(path: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = parsed(path)["jobs"]
    return found


def steps(path: Path) -> Iterator[dict[str, Any]]:
    if path in ACTIONS:
        yield from parsed(path)["runs"]["steps"]
    else:
        for job in jobs(path).values():
            yield from job["steps"]


def ids(path: Path) -> str:
    return path.parent.name if path in ACTIONS else path.stem


each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=ids)
each_file = pytest.mark.parametrize("path", [*WORKFLOWS, *ACTIONS], ids=ids)


@pytest.fixture(scope="module")
def sessions() -> set[str]:
    # As JSON it lists only those that run by default.
    command = [sys.executable, "-m", "nox", "--list", "-f", str(ROOT / "noxfile.py")]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return set(re.findall(r"^[*-] (\S+)", done.stdout, re.MULTILINE))


def test_all_three_are_there() -> None:
    assert [path.stem for path in WORKFLOWS] == ["ci", "nightly", "release"]


@each_workflow
def test_every_session_exists(path: Path, sessions: set[str]) -> None:
    called = [
        match["name"] for step in steps(path) if (match := SESSION.match(step.get("run", "")))
    ]

    assert called
    for name in called:
        for project in {entry.project for entry in ENTRIES}:
            assert name.strip('"').replace("$PROJECT", project) in sessions


@each_file
def test_a_step_is_a_known_action_a_session_or_the_setting_up_of_nox(path: Path) -> None:
    for step in steps(path):
        assert ("run" in step) != ("uses" in step)
        if "run" in step:
            assert SESSION.match(step["run"]) or step["run"].startswith((f"{PIP} src/", ISSUE))
            assert len(step["run"].splitlines()) == 1
        elif not step["uses"].startswith("$/"):
            assert step["uses"].partition("@")[0] in KNOWN


@each_file
def test_every_action_is_pinned_by_commit_and_names_its_version(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if "uses:" in line]

    assert lines
    for line in lines:
        own = re.search(r"uses: \$/(?P<path>\S+)$", line)
        if own:
            assert (ROOT / own["path"] / "action.yml").is_file()
        else:
            assert re.search(r"uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line)


@each_file
def test_nothing_is_expanded_into_a_shell(path: Path) -> None:
    assert [step["run"] for step in steps(path) if "${{" in step.get("run", "")] == []


@each_workflow
def test_permissions_are_empty_unless_a_job_asks(path: Path) -> None:
    assert parsed(path)["permissions"] == {}
    for job in jobs(path).values():
        assert job["permissions"]
        if "environment" not in job:
            writes = [name for name, value in job["permissions"].items() if value != "read"]
            assert writes in ([], ["issues"])


@each_workflow
def test_no_checkout_leaves_credentials_behind(path: Path) -> None:
    for step in steps(path):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


@each_workflow
def test_secrets_are_in_jobs_that_a_person_approves(path: Path) -> None:
    for job in jobs(path).values():
        secret = "secrets." in json.dumps(job)
        assert not secret or job["environment"] == "release"
        for step in job["steps"]:
            # To one step each: a secret of the whole job would be in every program that it runs.
            assert "secrets." not in json.dumps({**step, "env": {}})
        assert "secrets." not in json.dumps(job.get("env", {}))
    assert "pull_request_target" not in parsed(path)["on"]


def test_no_secret_where_code_of_pull_requests_runs() -> None:
    for path in WORKFLOWS:
        if "pull_request" in parsed(path)["on"]:
            assert "secrets." not in path.read_text()
            assert "github.token" not in path.read_text()
            assert all(job["permissions"] == {"contents": "read"} for job in jobs(path).values())


@each_file
def test_nothing_comes_out_of_a_cache(path: Path) -> None:
    assert "actions/cache" not in path.read_text()
    assert all("cache" not in step.get("with", {}) for step in steps(path))


@each_workflow
def test_what_a_job_reads_is_there(path: Path) -> None:
    """Keys of the matrix, outputs of jobs that it needs, and of steps before."""
    known = ENTRIES[0].to_json().keys()
    for job in jobs(path).values():
        text = json.dumps(job)
        assert set(re.findall(r"matrix\.(\w+)", text.replace("steps.matrix", ""))) - known <= {
            "outputs"
        }
        for needed, output in re.findall(r"needs\.([\w-]+)\.outputs\.(\w+)", text):
            assert needed in job["needs"]
            assert output in jobs(path)[needed]["outputs"]
        given = {step["id"] for step in job["steps"] if "id" in step}
        assert set(re.findall(r"steps\.(\w+)\.outputs", text)) <= given
    gates = re.findall(r"steps\.matrix\.outputs\.(\w+)", path.read_text())
    assert set(gates) <= {str(gate) for gate in Gate}


@each_workflow
def test_artifacts_that_are_fetched_were_handed_on(path: Path) -> None:
    handed = [
        step["with"]["name"]
        for step in steps(path)
        if step.get("uses", "").startswith("actions/upload-artifact@")
    ]
    for step in steps(path):
        if step.get("uses", "").startswith("actions/download-artifact@"):
            name = step["with"].get("name") or step["with"]["pattern"].rstrip("*")
            assert [one for one in handed if one.startswith(name)]
    assert len(handed) == len(set(handed))


def test_in_a_release_every_wheel_is_received_by_its_digest() -> None:
    release = GITHUB / "workflows" / "release.yml"
    received = [
        step for step in steps(release) if "nox -s freewheel -- receive" in step.get("run", "")
    ]

    assert len(received) == 2
    for step in received:
        assert step["env"] == {"FREEWHEEL_DIGESTS": "${{ needs.compare.outputs.digests }}"}
    builders = [
        name
        for name, job in jobs(release).items()
        if 'nox -s "build-' in json.dumps(job).replace('\\"', '"')
    ]
    assert builders == ["builder-a", "builder-b"]


def test_nox_is_the_one_of_the_readme() -> None:
    (wanted,) = re.findall(
        r"^nox\S+", (ROOT / "src/freewheel/pins/nox.in").read_text(), re.MULTILINE
    )

    assert f"'{wanted}'" in (ROOT / "README.md").read_text()
