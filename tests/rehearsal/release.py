"""The release, rehearsed: from a tag to an installed package, with wheels of this machine's target.

Every session of `release.yml` runs, in its order, each job in a checkout of its own. The index is a
devpi-server on loopback and the key is thrown away afterwards; a directory stands for Pages.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from uv import find_uv_bin

from freewheel.base import console, files
from freewheel.base.workspace import Workspace
from freewheel.machine.interpreter import Interpreter, find_interpreter, python_of
from freewheel.publish import server
from freewheel.recipe.pythons import DEFAULT
from freewheel.recipe.targets import own_target
from freewheel.trust.provenance import TRUSTED_KEYS

from .workflow import ROOT, Machine, run

WORKFLOW = ROOT / ".github" / "workflows" / "release.yml"
# In a fresh environment, without the GIL: is it there, and is it ours?
IMPORT = "import sys, {name} as found; assert not sys._is_gil_enabled(); print(found.__version__)"


@dataclass(frozen=True, kw_only=True)
class Rehearsed:
    """What came of it: the digests that went from job to job, and what was installed, by how."""

    digests: dict[str, str]
    installed: dict[str, str]
    pages: Path


def rehearse(
    workspace: Workspace, project: str, release: str, scratch: Path, *, races: bool = False
) -> Rehearsed:
    """Walk through the release of one wheel and install it. Raises WorkflowError at a failure.

    ``races`` looks for them as the workflow does, which takes half an hour the first time.
    """
    keys = scratch / "keys"
    secret = _throw_away_key(keys)
    apart = replace(workspace, data=scratch / "index", cache=scratch / "index-cache")
    running = server.start_server(apart, port=0)
    try:
        machine = Machine(
            scratch=scratch,
            cache=workspace.cache,
            secrets={
                "FREEWHEEL_SIGNING_KEY": secret,
                "TWINE_PASSWORD": running.server.password,
            },
            variables={
                "TWINE_REPOSITORY_URL": running.upload_url,
                "TWINE_USERNAME": running.server.username,
                "FREEWHEEL_INDEX_URL": running.simple_url,
                "FREEWHEEL_PAGES_URL": "",
            },
            environment={TRUSTED_KEYS: str(keys)},
            chosen=lambda entry: _is_wanted(entry, project, release),
            left_out=frozenset() if races else frozenset({"--races"}),
        )
        outputs = run(WORKFLOW, machine)
        pins = machine.artifacts / "requirements" / "requirements.txt"
        installed = _install(workspace, project, pins, scratch, running.simple_url, machine.pages)
    finally:
        running.stop()
    digests = json.loads(outputs["compare"]["digests"])
    return Rehearsed(digests=digests, installed=installed, pages=machine.pages)


def _is_wanted(entry: Mapping[str, Any], project: str, release: str) -> bool:
    named = (entry["project"], entry["release"]) == (project, release)
    return named and entry["target"] == own_target(DEFAULT)


def _throw_away_key(directory: Path) -> str:
    """A key pair: the private one as text, as a secret is; the public one where it is trusted."""
    key = Ed25519PrivateKey.generate()
    pem = serialization.Encoding.PEM
    public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    files.write_bytes(directory / "rehearsal.pem", public)
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private.decode()


def _install(
    workspace: Workspace, project: str, pins: Path, scratch: Path, simple_url: str, pages: Path
) -> dict[str, str]:
    """Install by the pins that the release handed on, with pip and uv, from both indexes."""
    interpreter = find_interpreter(workspace)
    found = {}
    for where, url in (("the server", simple_url), ("Pages", pages.as_uri() + "/")):
        for installer in ("pip", "uv"):
            console.say(f"── install from {where} with {installer}")
            place = scratch / f"{installer}-{where.replace(' ', '-')}"
            python = _environment(place, interpreter)
            words = ["--quiet", "--require-hashes", "--no-deps", "-r", str(pins)]
            if installer == "pip":
                words = [str(python), "-m", "pip", "install", "--index-url", url, *words]
            else:
                uv = [find_uv_bin(), "pip", "install", "--python", str(python)]
                words = [*uv, "--default-index", url, *words]
            subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
            said = subprocess.run(
                [python, "-I", "-W", "error", "-c", IMPORT.format(name=project)],
                check=True,
                capture_output=True,
                text=True,
            )
            found[f"{installer} from {where}"] = said.stdout.strip()
    return found


def _environment(place: Path, interpreter: Interpreter) -> Path:
    words = [find_uv_bin(), "venv", "--quiet", "--no-project", "--seed"]
    subprocess.run([*words, "--python", interpreter.path, place], check=True)
    return python_of(place)
