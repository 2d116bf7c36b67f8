"""Runs the jobs of a workflow file on this machine, one after the other, in checkouts of their own.

It knows what our workflows use, and refuses the rest: expressions that name a value, matrices,
outputs, artifacts, environment variables. Sessions run as they stand in the file. Where GitHub
itself is needed, something stands in for it, and that is said.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from freewheel.base import console
from freewheel.base.workspace import SHARED, share_cache

ROOT = Path(__file__).parents[2]
_EXPRESSION = re.compile(r"\$\{\{\s*(?P<inner>[^}]+?)\s*\}\}")
_NAME = re.compile(r"^[\w-]+(\.[\w-]+)+$")
_FROM_JSON = re.compile(r"^fromJSON\((?P<inner>[^()]+)\)$")
# Nobody checks these out.
_NOT_COPIED = (
    ".git",
    ".nox",
    ".venv",
    "__pycache__",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
)
_TRACKED_WHEELS = ("README.md", "known-good.json")
# How a step becomes root where runners are not: a rehearsal is run by whoever runs it.
_AS_ROOT = 'sudo --preserve-env env "PATH=$PATH" '
_UNWANTED = ("PYTHONPATH", "VIRTUAL_ENV", "GITHUB_OUTPUT", "FREEWHEEL_DIGESTS")


class WorkflowError(Exception):
    """A step failed, or the workflow does what a rehearsal does not know."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What stands for GitHub: where jobs run, what they are given, and which are run.

    ``cache`` is Freewheel's; each job has one of its own that shares what builds may share, and
    results of proofs. ``chosen`` says which entries of a matrix are of this machine's kind, and
    ``left_out`` is options of sessions that are not rehearsed.
    """

    scratch: Path
    cache: Path
    secrets: Mapping[str, str]
    variables: Mapping[str, str]
    environment: Mapping[str, str]
    chosen: Callable[[Mapping[str, Any]], bool]
    left_out: frozenset[str] = frozenset()

    @property
    def artifacts(self) -> Path:
        return self.scratch / "artifacts"

    @property
    def pages(self) -> Path:
        """What is deployed."""
        return self.scratch / "pages"


@dataclass(frozen=True, kw_only=True)
class _Running:
    """A job that runs: its checkout, and the values that expressions may name."""

    machine: Machine
    name: str
    checkout: Path
    environment: dict[str, str]
    values: dict[str, Any] = field(default_factory=dict)


def run(path: Path, machine: Machine) -> dict[str, dict[str, str]]:
    """Run every job of the workflow, in the order of the file; the outputs of each."""
    content = YAML(typ="safe").load(path)
    outputs: dict[str, dict[str, str]] = {}
    for name, job in content["jobs"].items():
        needed = job.get("needs", [])
        if missing := [one for one in needed if one not in outputs]:
            raise WorkflowError(f"{name} stands before {', '.join(missing)}, which it needs")
        values: dict[str, Any] = {
            "needs": {one: {"outputs": outputs[one]} for one in needed},
            "secrets": machine.secrets if job.get("environment") else {},
            "vars": machine.variables,
        }
        outputs[name] = {}
        for entry in _entries(job, values, machine):
            title = f"{name} {entry['name']}" if entry else name
            console.say(f"── {title}")
            outputs[name] |= _run_job(job, machine, title, {**values, "matrix": entry})
    return outputs


def _entries(
    job: Mapping[str, Any], values: Mapping[str, Any], machine: Machine
) -> Iterator[Mapping[str, Any]]:
    if "strategy" not in job:
        yield {}
        return
    found = [
        entry
        for entry in _resolve(job["strategy"]["matrix"]["include"], values)
        if machine.chosen(entry)
    ]
    if not found:
        raise WorkflowError("no entry of the matrix is for this machine")
    yield from found


def _run_job(
    job: Mapping[str, Any], machine: Machine, title: str, values: dict[str, Any]
) -> dict[str, str]:
    room = machine.scratch / "jobs" / re.sub(r"\W+", "-", title)
    room.mkdir(parents=True)
    own_cache = room / "cache"
    share_cache(machine.cache, own_cache, (*SHARED, "proof"))
    running = _Running(
        machine=machine,
        name=title,
        checkout=room / "checkout",
        environment={
            **{name: value for name, value in os.environ.items() if name not in _UNWANTED},
            **machine.environment,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "FREEWHEEL_CACHE": str(own_cache),
            "FREEWHEEL_DATA": str(room / "data"),
            **{name: _text(value, values) for name, value in job.get("env", {}).items()},
        },
        values={**values, "steps": {}},
    )
    for step in job["steps"]:
        console.say(f"   {step['name']}")
        outputs = _run_step(running, step)
        if "id" in step:
            running.values["steps"][step["id"]] = {"outputs": outputs}
    return {name: _text(value, running.values) for name, value in job.get("outputs", {}).items()}


# -------------------------------------------------------------------------------------- the steps


def _run_step(running: _Running, step: Mapping[str, Any]) -> dict[str, str]:
    if "run" in step:
        return _run_line(running, step)
    action = step["uses"].partition("@")[0]
    options = {
        name: _text(value, running.values) if isinstance(value, str) else value
        for name, value in step.get("with", {}).items()
    }
    known: dict[str, Callable[[_Running, dict[str, Any]], dict[str, str]]] = {
        "actions/checkout": _check_out,
        "$/.github/actions/nox": _set_up,
        "actions/upload-artifact": _upload,
        "actions/download-artifact": _download,
        "actions/attest-build-provenance": _attest,
        "actions/upload-pages-artifact": _upload_pages,
        "actions/deploy-pages": _deploy,
    }
    if action not in known:
        raise WorkflowError(f"a rehearsal does not know {action}")
    return known[action](running, options)


def _run_line(running: _Running, step: Mapping[str, Any]) -> dict[str, str]:
    outputs = running.checkout.with_name("outputs")
    outputs.write_text("")
    own = {name: _text(value, running.values) for name, value in step.get("env", {}).items()}
    line = step["run"].replace(_AS_ROOT, "")
    for option in running.machine.left_out:
        if f" {option}" in line:
            console.say(f"   · left out: {option}")
            line = line.replace(f" {option}", "")
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", line],
        cwd=running.checkout,
        env={**running.environment, **own, "GITHUB_OUTPUT": str(outputs)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise WorkflowError(f"{running.name}: {step['name']}: {step['run']}\n{done.stdout}")
    lines = outputs.read_text().splitlines()
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def _not_checked_out(directory: str, names: list[str]) -> list[str]:
    """What git would not bring: what it ignores, by the rules of .gitignore."""
    output = Path(directory) == ROOT / "wheels"
    return [
        name for name in names if name in _NOT_COPIED or (output and name not in _TRACKED_WHEELS)
    ]


def _check_out(running: _Running, _options: dict[str, Any]) -> dict[str, str]:
    shutil.copytree(ROOT, running.checkout, ignore=_not_checked_out, symlinks=True)
    # The environments of sessions are the same in every job; they are made once.
    environments = running.machine.cache / "rehearsal"
    environments.mkdir(parents=True, exist_ok=True)
    (running.checkout / ".nox").symlink_to(environments)
    return {}


def _set_up(running: _Running, _options: dict[str, Any]) -> dict[str, str]:
    if shutil.which("nox", path=running.environment["PATH"]) is None:
        raise WorkflowError("there is no nox: run `nox -s rehearse-release`")
    return {}


def _upload(running: _Running, options: dict[str, Any]) -> dict[str, str]:
    found = [path for path in running.checkout.glob(options["path"]) if path.exists()]
    if not found:
        raise WorkflowError(f"{running.name}: nothing to upload in {options['path']}")
    artifact = running.machine.artifacts / options["name"]
    if artifact.exists():
        raise WorkflowError(f"there is an artifact {options['name']} already")
    artifact.mkdir(parents=True)
    for path in found:
        if path.is_dir():
            # Of wheels/*.whl* only files are meant; a directory by itself gives what is in it.
            if "*" not in options["path"]:
                shutil.copytree(path, artifact, dirs_exist_ok=True)
        else:
            shutil.copyfile(path, artifact / path.name)
    return {}


def _download(running: _Running, options: dict[str, Any]) -> dict[str, str]:
    place = running.checkout / options["path"]
    if "name" in options:
        shutil.copytree(running.machine.artifacts / options["name"], place)
        return {}
    found = sorted(running.machine.artifacts.glob(options["pattern"]))
    if not found:
        raise WorkflowError(f"{running.name}: no artifact is called {options['pattern']}")
    for artifact in found:
        shutil.copytree(artifact, place / artifact.name)
    return {}


def _attest(running: _Running, options: dict[str, Any]) -> dict[str, str]:
    if not list(running.checkout.glob(options["subject-path"])):
        raise WorkflowError(f"{running.name}: nothing to attest in {options['subject-path']}")
    console.say("   · left out: Sigstore knows no workflow on this machine")
    return {}


def _upload_pages(running: _Running, options: dict[str, Any]) -> dict[str, str]:
    shutil.copytree(running.checkout / options["path"], running.machine.artifacts / "github-pages")
    return {}


def _deploy(running: _Running, _options: dict[str, Any]) -> dict[str, str]:
    shutil.copytree(running.machine.artifacts / "github-pages", running.machine.pages)
    return {"page_url": running.machine.pages.as_uri()}


# -------------------------------------------------------------------------------- the expressions


def _text(value: object, values: Mapping[str, Any]) -> str:
    """A value with every expression in it replaced."""
    return _EXPRESSION.sub(lambda match: str(_value(match["inner"], values)), str(value))


def _resolve(value: str, values: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """A value that is one expression, as what it stands for."""
    match = _EXPRESSION.fullmatch(value)
    if match is None:
        raise WorkflowError(f"not an expression: {value}")
    return _value(match["inner"], values)


def _value(inner: str, values: Mapping[str, Any]) -> Any:  # noqa: ANN401
    parsed = _FROM_JSON.match(inner)
    if parsed:
        return json.loads(_value(parsed["inner"], values))
    if not _NAME.match(inner):
        raise WorkflowError(f"a rehearsal does not know the expression {inner}")
    found: Any = values
    for key in inner.split("."):
        # As on GitHub, what is not there is empty: a secret outside of its environment, too.
        found = found.get(key, "") if isinstance(found, Mapping) else ""
    return found
