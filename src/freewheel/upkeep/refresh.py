"""Carry a patch series over to another release, by a three-way merge that git does.

In a repository of its own lie the old sources, each patch as a commit upon them, and the new
sources; the series is rebased from the one to the other. Where that conflicts, git stops there, and
so do we: an engineer solves it with git's own means, and the same command then goes on.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from freewheel.base import files, git, process
from freewheel.base.errors import PatchError, UpstreamError
from freewheel.base.workspace import Workspace
from freewheel.build import patches, source
from freewheel.build.patches import Patch
from freewheel.recipe.recipe import Recipe, Release, load_recipe
from freewheel.upkeep.recipe_text import add_release

_SERIES, _OLD, _NEW = "series", "old", "new"
_IDENTITY = ("-c", "user.name=freewheel", "-c", "user.email=freewheel@localhost")
_RELEASE_FIELD = re.compile(r"^X-Release: .*$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refreshed:
    """What came of it: the patches that were written, and those whose changes upstream has."""

    directory: Path
    written: tuple[str, ...]
    upstream: tuple[str, ...]


def refresh(workspace: Workspace, recipe: Recipe, release: Release, *, proceed: bool) -> Refreshed:
    """Carry the recipe's newest series over to ``release`` and add that to the recipe.

    ``proceed`` goes on with a merge in which an engineer has solved the conflicts. Raises
    PatchError where there is one, with how to go on, and UpstreamError where the recipe has the
    release.
    """
    if any(release.version == one.version for one in recipe.releases):
        raise UpstreamError(
            f"{recipe.path.name} carries {release.version} already",
            hint="name a release that it does not carry",
        )
    old = recipe.default_release
    series = patches.read_series(old)
    repository = workspace.cache / "refresh" / f"{recipe.name}-{release.version}"
    if not proceed:
        _prepare(workspace, repository, old, release, series)
        _rebase(repository, release, ["rebase", "--onto", _NEW, _OLD, _SERIES])
    elif (repository / ".git" / "rebase-merge").exists():
        _rebase(repository, release, ["rebase", "--continue"])
    texts = _written_back(repository, release, series)
    directory = workspace.patches / recipe.name / release.version
    _apply_to_fresh_sources(workspace, release, texts)
    for name, text in texts.items():
        files.write_text(directory / name, text)
    add_release(recipe.path, old, release, list(texts))
    load_recipe(recipe.path, workspace.patches)
    shutil.rmtree(repository)
    lost = [patch.name for patch in series if patch.name not in texts]
    return Refreshed(directory=directory, written=tuple(texts), upstream=tuple(lost))


def _prepare(
    workspace: Workspace, repository: Path, old: Release, new: Release, series: Sequence[Patch]
) -> None:
    """The repository: the old sources, the patches on them, and beside those the new sources."""
    files.empty_directory(repository)
    _git(repository, ["init", "--quiet", f"--initial-branch={_SERIES}"])
    _fill(workspace, repository, old)
    _commit(repository, f"{old.project} {old.version}")
    _git(repository, ["tag", _OLD])
    for patch in series:
        _git(repository, ["apply", "--index", patch.path])
        _commit(repository, f"{patch.name}\n\n{_header(patch)}")
    _git(repository, ["checkout", "--quiet", "-b", "upstream", _OLD])
    _git(repository, ["rm", "-r", "--quiet", "."])
    _fill(workspace, repository, new)
    _commit(repository, f"{new.project} {new.version}")
    _git(repository, ["tag", _NEW])


def _fill(workspace: Workspace, repository: Path, release: Release) -> None:
    archive = source.fetch(release, workspace.sources)
    unpacked = repository.with_name(f"{repository.name}-{release.version}.unpacked")
    tree = source.unpack(archive, files.empty_directory(unpacked))
    shutil.copytree(tree, repository, symlinks=True, dirs_exist_ok=True)
    shutil.rmtree(unpacked)
    _git(repository, ["add", "--all", "--force", "."])


def _commit(repository: Path, message: str) -> None:
    words = ["commit", "--quiet", "--allow-empty", "--no-verify", "--cleanup=verbatim", "--message"]
    _git(repository, [*words, message])


def _rebase(repository: Path, release: Release, words: list[str]) -> None:
    """Rebase, or go on with it; a patch that changes nothing any more is dropped."""
    drop = ["--empty=drop"] if "--continue" not in words else []
    done = _run(repository, [*words, *drop])
    if done.returncode == 0:
        return
    commit = _git(repository, ["log", "--max-count=1", "--format=%s", "REBASE_HEAD"]).strip()
    conflicts = _git(repository, ["diff", "--name-only", "--diff-filter=U"]).splitlines()
    project = release.project
    raise PatchError(
        f"{commit} conflicts with {project} {release.version}",
        problems=[f"in {name}" for name in conflicts] or done.stderr.strip().splitlines(),
        hint=f"in {repository}, fix the files between the marks, `git add` them, and run "
        f"`nox -s refresh-{project} -- {release.version} --continue`; or leave the patch out with "
        f"`git rebase --skip` first; to start again, omit --continue",
    )


def _written_back(repository: Path, release: Release, series: Sequence[Patch]) -> dict[str, str]:
    """The patches of the rebased series, by file name, each under the header that it had."""
    known = {patch.name: patch for patch in series}
    listed = _git(repository, ["log", "--reverse", "--format=%H %s", f"{_NEW}..{_SERIES}"])
    texts: dict[str, str] = {}
    for line in listed.splitlines():
        commit, _, name = line.partition(" ")
        if name not in known or name in texts:
            raise PatchError(
                f"a commit in {repository} belongs to no patch of the series: {name}",
                hint="keep one commit for each patch, and the first line of its message",
            )
        words = ["diff", "--full-index", "--no-color", "--no-renames", "--no-ext-diff"]
        body = _git(repository, [*words, f"{commit}^", commit])
        header = _RELEASE_FIELD.sub(f"X-Release: {release.version}", _header(known[name]), count=1)
        texts[name] = f"{header}\n---\n{body}"
    return texts


def _header(patch: Patch) -> str:
    return patch.path.read_text(encoding="utf-8").partition("\n---\n")[0]


def _apply_to_fresh_sources(workspace: Workspace, release: Release, texts: dict[str, str]) -> None:
    """The series as it will be built: exactly, on sources that nobody has touched."""
    scratch = files.empty_directory(workspace.work / f"refresh-{release.project}")
    archive = source.fetch(release, workspace.sources)
    tree = source.unpack(archive, files.empty_directory(scratch / "tree"))
    written = scratch / "series"
    for name, text in texts.items():
        files.write_text(written / name, text)
    made = replace(release, patches=tuple(written / name for name in texts))
    patches.apply_series(tree, made, patches.read_series(made))
    shutil.rmtree(scratch)


def _git(repository: Path, words: Sequence[str | Path]) -> str:
    done = _run(repository, words)
    if done.returncode:
        raise PatchError(
            f"git {words[0]} failed in {repository}",
            problems=done.stderr.strip().splitlines(),
            hint="start again without --continue; what was done in that repository is then lost",
        )
    return done.stdout


def _run(repository: Path, words: Sequence[str | Path]) -> process.Finished:
    quiet = ("-c", "core.editor=true", "-c", "core.autocrlf=false", "-c", "commit.gpgSign=false")
    return git.run_outside(repository, [*_IDENTITY, *quiet, *words])
