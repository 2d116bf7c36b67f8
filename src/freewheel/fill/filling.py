"""From a plan to wheels: what is patched here, what is public, and what fills the gaps."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from freewheel.audit.available import Offers
from freewheel.audit.choosing import Candidate
from freewheel.audit.downloads import Downloads, Failure
from freewheel.base import differences, files, trouble
from freewheel.base.console import Board
from freewheel.base.workspace import Workspace
from freewheel.build import pipeline
from freewheel.build.check import BaselineWheel
from freewheel.build.job import Job
from freewheel.build.wheel import Container
from freewheel.fill import making, shelf
from freewheel.fill.making import Builder, Lacking, NotBuilt
from freewheel.fill.orders import Absent, Order, Plan
from freewheel.fill.shelf import Filled
from freewheel.machine.engine import find_engine, remove_leftovers
from freewheel.machine.image import find_or_make_image
from freewheel.machine.interpreter import find_interpreter
from freewheel.machine.layer import find_or_make_layer
from freewheel.proof import certificate
from freewheel.recipe.pythons import python_of

_LAYERS = 6  # times that packages are added for one distribution, at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A wheel of the environment: a file here, and where an installer gets it from.

    ``trust`` says how far to trust it: proven, patched, public or filled.
    """

    project: str
    version: str
    path: Path
    sha256: str
    trust: str
    url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """``packages``: add system packages that a build lacks. ``twice``: build again, and compare.

    ``retry``: also what failed in an earlier run.
    """

    packages: bool = False
    twice: bool = False
    retry: bool = False


def patched(
    workspace: Workspace, plan: Plan, target: str, board: Board
) -> tuple[list[Item], list[Absent]]:
    """The wheels of ours: those that are there, else built now."""
    jobs = [
        Job(recipe=recipe, release=release, baseline=False, target=target)
        for recipe, release in plan.ours
    ]
    items, absent = [], []
    for outcome in pipeline.build(workspace, jobs, board) if jobs else ():
        wheel = outcome.wheel
        if wheel is None or isinstance(wheel, BaselineWheel):
            error = outcome.error
            absent.append(
                Absent(
                    project=outcome.job.recipe.name,
                    version=outcome.job.version,
                    cause=error.summary if error else "it was not built",
                    remedy=error.hint if error else f"nox -s build-{outcome.job.recipe.name}",
                )
            )
            continue
        items.append(
            Item(
                project=wheel.project,
                version=wheel.version,
                path=wheel.path,
                sha256=wheel.sha256,
                trust="proven" if certificate.beside(wheel.path)[0] else "patched",
            )
        )
    return items, absent


def public(
    plan: Plan, index: Offers, downloads: Downloads, board: Board
) -> tuple[list[Item], list[Absent]]:
    """The wheels that an index has, downloaded and their digests checked.

    A lock's own URLs are of the index that it was made with, so the one that is set up here comes
    first.
    """
    items: list[Item] = []
    absent: list[Absent] = []
    answers = index.ask(choice.locked.name for choice, _ in plan.public)
    wheels = [
        (choice, candidate.also_from(answers[choice.locked.name].offers))
        for choice, candidate in plan.public
    ]
    with board.counted("public wheels", len(wheels)) as advance:

        def bring(candidate: Candidate) -> Path | Failure:
            found = downloads.file(candidate)
            advance()
            return found

        with ThreadPoolExecutor(6) as pool:
            found = list(pool.map(bring, (candidate for _, candidate in wheels)))
    for (choice, candidate), path in zip(wheels, found, strict=True):
        name, version = choice.locked.name, choice.version
        if isinstance(path, Failure):
            cause, remedy = path.reason, path.remedy
            absent.append(Absent(project=name, version=version, cause=cause, remedy=remedy))
            continue
        items.append(
            Item(
                project=name,
                version=version,
                path=path,
                sha256=candidate.sha256 or files.sha256(path),
                trust="public",
                url=candidate.urls[0] if candidate.urls else "",
            )
        )
    return items, absent


def fill(
    workspace: Workspace, orders: Sequence[Order], downloads: Downloads, how: How, board: Board
) -> list[Filled | Absent]:
    """Build each order that no earlier run has built; one that fails costs only itself."""
    known: dict[str, Filled | Absent] = {}
    for order in orders:
        found: Filled | Absent | None = None if how.twice else shelf.find(workspace, order)
        if found is None and not how.retry and not how.twice:
            found = shelf.find_failure(workspace, order, may_add_packages=how.packages)
        if found is not None:
            known[order.slug] = found
    waiting = [order for order in orders if order.slug not in known]
    if waiting:
        with files.locked(workspace.locks / "build.lock", what="a build"):
            builder = _builder(workspace, waiting[0].target, board)

            def one(order: Order) -> Filled | Absent:
                return _attempt(workspace, order, builder, downloads, how=how, board=board)

            with ThreadPoolExecutor(os.cpu_count()) as pool:
                for order, result in zip(waiting, pool.map(one, waiting), strict=True):
                    known[order.slug] = result
    return [known[order.slug] for order in orders]


def _builder(workspace: Workspace, target: str, board: Board) -> Builder:
    with board.stage("builder", "container engine"):
        engine = find_engine(workspace, may_install=True)
        remove_leftovers(engine)
    with board.stage("builder", "image"):
        image = find_or_make_image(workspace, engine, target)
    with board.stage("builder", "interpreter"):
        interpreter = find_interpreter(workspace, python_of(target))
    return Builder(container=Container(engine=engine, image=image), interpreter=interpreter)


def _attempt(
    workspace: Workspace,
    order: Order,
    builder: Builder,
    downloads: Downloads,
    *,
    how: How,
    board: Board,
) -> Filled | Absent:
    """Build an order, with the system packages that it lacks if these may be added."""
    try:
        for _ in range(_LAYERS):
            try:
                return _made(workspace, order, builder, downloads, how=how, board=board)
            except Lacking as lacking:
                if not how.packages:
                    raise
                order = lacking.order
                builder = _with_packages(workspace, order, builder, board)
    except NotBuilt as error:
        if not error.passing:
            shelf.keep_failure(workspace, order, error, builder.container.image)
        return error.absent
    except Exception as error:  # noqa: BLE001  a full disk ends one build, not the run
        explained = trouble.explained(error)
        return Absent(
            project=order.project,
            version=order.version,
            cause=explained.summary,
            remedy=explained.hint,
        )
    finally:
        making.forget(workspace, order)
    return Absent(
        project=order.project,
        version=order.version,
        cause=f"it lacked further system packages {_LAYERS} times",
        remedy="write a recipe, with all of them in build.system-packages",
    )


def _with_packages(workspace: Workspace, order: Order, builder: Builder, board: Board) -> Builder:
    base = find_or_make_image(workspace, builder.engine, order.target)
    with board.stage(order.title, "system packages"):
        image = find_or_make_layer(workspace, builder.engine, base, order.packages)
    return replace(builder, container=replace(builder.container, image=image))


def _made(
    workspace: Workspace,
    order: Order,
    builder: Builder,
    downloads: Downloads,
    *,
    how: How,
    board: Board,
) -> Filled:
    lock = shelf.recorded_lock(workspace, order)
    with board.stage(order.title, "build"):
        made = making.make(workspace, order, builder, downloads, lock=lock)
    filled = shelf.place(workspace, order, made, builder)
    if not how.twice:
        return filled
    with board.stage(order.title, "build again"):
        second = making.make(workspace, order, builder, downloads, lock=made.lock)
    again = shelf.marked(workspace, order, second, builder)
    found: Sequence[str] = ()
    if files.sha256(again) != filled.sha256:
        found = differences.differences(filled.path, again)
    return replace(filled, again=tuple(found))
