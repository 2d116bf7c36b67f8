# /// script
# requires-python = ">=3.14"
# dependencies = ["greenlet==3.5.6"]
#
# [tool.freewheel.stress]
# title = "deep stacks, exceptions, generators, contexts, tracing, garbage collection, thread exit"
# use = "supported"
# work = { quick = 5, full = 40 }
# seconds = 60
# exclusive = true
# ///
# ruff: noqa: S311  random choices must be repeatable
# ruff: noqa: TRY301  what is raised is to be caught right here
"""What applications do with greenlets, in four threads at once, each with greenlets of its own.

What greenlets return, what their variables, exceptions and contexts are after a switch, and how
often their `finally` blocks ran is compared with what it has to be. The main thread collects
garbage meanwhile. Misuse, one greenlet used by several threads (G4, G10), is not in here.

    python src/freewheel/proof/load.py probes/greenlet/stress.py SECONDS
"""

import asyncio
import contextlib
import contextvars
import functools
import gc
import queue
import random
import sys
import threading
import traceback
import weakref
from collections import Counter, deque

import greenlet as package
from greenlet import GreenletExit, getcurrent, greenlet
from load import WRONG, collect, collecting, end, expect, until, warming_up

PACKAGE = package
SLACK = {"MiB resident": 24}  # of which the crowds take up to 20


def prepare():
    sys.setrecursionlimit(10_000)
    threading.Thread(target=drop, daemon=True).start()


def meanwhile():
    collect()


def resting():
    expect("garbage collection is on", True, gc.isenabled())


# ------------------------------------------------------------------- what some kinds have in common


class Thrown(Exception):
    pass


def pause(value=None):
    """Switch to the parent, which has to send the same back."""
    expect("what a greenlet was sent", value, getcurrent().parent.switch(value))


def interleave(random, function, arguments):
    """Call it with each argument in a greenlet, going on with any when one pauses; the results."""
    waiting = {number: (greenlet(function), one) for number, one in enumerate(arguments)}
    results = [None] * len(waiting)
    while waiting:
        number = random.choice(list(waiting))
        one, sent = waiting.pop(number)
        results[number] = one.switch(sent)
        if not one.dead:
            waiting[number] = one, results[number]
    return results


class Blocks:
    """How often `finally` and `with` blocks were left, and in which threads."""

    def __init__(self):
        self.left, self.threads, self.killers = Counter(), set(), set()

    @contextlib.contextmanager
    def block(self, name):
        try:
            yield
        finally:
            self.left[name] += 1
            self.threads.add(threading.get_ident())

    def suspended(self, name, depth=3):
        """A new greenlet, suspended within such blocks."""
        one = greenlet(self.enter)
        one.switch(name, depth)
        return one

    def enter(self, name, depth):
        with self.block((name, depth, "with")):
            try:
                self.enter(name, depth - 1) if depth else pause(name)
            finally:
                self.left[name, depth, "finally"] += 1
                self.killers.add(threading.get_ident())

    def check(self, names, depth=3, threads=()):
        """Each block was left, once, in this thread."""
        kinds = "finally", "with"
        expected = {(n, d, kind): 1 for n in names for d in range(depth + 1) for kind in kinds}
        expect("blocks left", expected, dict(self.left))
        # From 3.15 on the collector sees what suspended greenlets refer to. So it closes generators
        # that are garbage with them, and it does that in its own thread (docs/limits.md).
        left_in = self.killers if sys.version_info >= (3, 15) else self.threads | self.killers
        expect("in the threads", set(threads) or {threading.get_ident()}, left_in)


def recurse(worker, ways):
    """Greenlets call themselves by one of the ways each time, and pause at the bottom."""

    def through(depth):
        below = []

        def further(*_):
            mine = [depth]
            below.append(through(depth - 1) if depth else pause("at the bottom") or 0)
            expect("a local variable", [depth], mine)
            return 0

        worker.random.choice(ways)(further)
        return below.pop() + 1

    depths = [worker.random.randint(5, 80) for _ in range(4)]
    expect("depths", [n + 1 for n in depths], interleave(worker.random, through, depths))
    return len(depths)


# ----------------------------------------------------------------------------- the kinds of work


def await_only(awaitable):
    return getcurrent().parent.switch(awaitable)


async def greenlet_spawn(function, *arguments):
    bridge = greenlet(function)
    bridge.gr_context = getcurrent().gr_context
    result = bridge.switch(*arguments)
    while not bridge.dead:
        try:
            value = await result
        except BaseException as error:
            result = bridge.throw(error)
        else:
            result = bridge.switch(value)
    return result


TASK = contextvars.ContextVar("TASK", default="no task")


def bridges(worker):
    """Synchronous code waits for coroutines, as with SQLAlchemy's asyncio layer."""
    left = Counter()

    async def add(a, b):
        await asyncio.sleep(0)
        if b < 0:
            raise Thrown(a, b)
        return a + b

    def session(task, depth):
        if depth:
            return session(task, depth - 1)
        try:
            total = task
            while task % 5 == 0 or total < task + 10:  # every fifth goes on until it is cancelled
                total = await_only(add(total, 1))
                expect("the context variable", task, TASK.get())
                expect("the current task", str(task), asyncio.current_task().get_name())
            await_only(add(total, -1))
        except Thrown as error:
            return error.args
        finally:
            left[task] += 1

    async def run(task):
        TASK.set(task)
        return await greenlet_spawn(session, task, worker.random.randrange(20))

    async def main():
        tasks = [asyncio.create_task(run(task), name=str(task)) for task in range(30)]
        await asyncio.wait([task for number, task in enumerate(tasks) if number % 5])
        for task in tasks[::5]:
            task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = asyncio.run(main())
    for task, result in enumerate(results):
        if task % 5:
            expect("a task's result", (task + 10, -1), result)
        else:
            expect("a task's result", asyncio.CancelledError, type(result))
    expect("blocks left", dict.fromkeys(range(30), 1), dict(sorted(left.items())))
    return len(results)


END = object()


def pipelines(worker):
    """A producer, filters and a consumer pass values on."""

    def produce():
        for value in values:
            pause(value)
        return END

    def add(source, number):
        source.parent = getcurrent()
        value = source.switch()
        while value is not END:
            pause(value + number)
            value = source.switch(value)
        return END

    values = [worker.random.randrange(1000) for _ in range(100)]
    stages = worker.random.randint(1, 10)
    source = greenlet(produce)
    for number in range(stages):
        source = greenlet(functools.partial(add, source, number))
    got = [source.switch()]
    while got[-1] is not END:
        got.append(source.switch(got[-1]))
    expect("values", [value + sum(range(stages)) for value in values], got[:-1])
    return len(values)


def deep(worker):
    """Greenlets pause deep in a recursion, and on the way back."""

    def descend(depth):
        mine = [depth]
        below = descend(depth - 1) if depth else 0
        if depth % 200 == 0:
            pause(depth)
        expect("a local variable", [depth], mine)
        return below + depth

    depths = [worker.random.randint(200, 2000) for _ in range(4)]
    sums = [depth * (depth + 1) // 2 for depth in depths]
    expect("sums", sums, interleave(worker.random, descend, depths))
    return sum(depth // 200 + 1 for depth in depths)


def native(worker):
    """Greenlets pause within functions that C code calls."""
    ways = (
        lambda further: min([0], key=further),
        lambda further: max([0], key=further),
        lambda further: sum(map(further, [0])),
        lambda further: next(filter(further, [0]), None),
        lambda further: next(iter(further, 0), None),
        lambda further: functools.reduce(further, [0, 0]),
        lambda further: functools.partial(further, 0)(),
    )
    return recurse(worker, ways)


def locking(worker):
    """Greenlets pause within functions that C code calls while it has locked an object."""
    ways = (
        lambda further: sorted([0], key=further),
        lambda further: [0].sort(key=further),
        lambda further: list(map(further, [0])),
        lambda further: set(map(further, [0])),
        lambda further: dict.fromkeys(map(further, [0])),
        lambda further: deque(map(further, [0])),
    )
    return recurse(worker, ways)


class Special:
    def __init__(self, further):
        self.further = further

    __getattr__ = __add__ = __contains__ = lambda self, _: self.further()
    __len__ = lambda self: self.further()  # noqa: E731
    value = property(__len__)


def lookups(worker):
    """Greenlets start and pause within lookups of attributes and special methods."""

    def run():
        pause()
        collect()
        return 0

    ways = (
        lambda further: Special(further).missing,
        lambda further: Special(further).value,
        lambda further: Special(further) + 0,
        lambda further: len(Special(further)),
        lambda further: 0 in Special(further),
    )
    one = greenlet(run)
    expect("what the lookup gives", None, Special(one.switch).value)
    expect("what the greenlet gives after it", 0, one.switch(None))
    return recurse(worker, ways)


def throws(worker):
    """Exceptions thrown into greenlets leave their blocks, and go on to their parents."""

    def outer():
        with blocks.block("outer"):
            inner.append(blocks.suspended("inner", depth))
            pause()

    blocks, depth, error, inner = Blocks(), worker.random.randint(1, 50), Thrown(), []
    for name, thrown in ("instance", error), ("class", Thrown), ("exit", GreenletExit()):
        one = blocks.suspended(name, depth)
        try:
            expect("what throw() returns", thrown, one.throw(thrown))
        except Thrown as caught:
            expect("the same exception", True, thrown in (caught, type(caught)))
            names = [frame.name for frame in traceback.extract_tb(caught.__traceback__)]
            expect("frames in its traceback", depth + 1, names.count("enter"))
        expect("dead", True, one.dead)
    one = greenlet(outer)
    one.switch()
    for target in inner.pop(), greenlet(blocks.enter):  # in a greenlet in a greenlet; not started
        try:
            expect("what throw() returns", "nothing", target.throw(error))
        except Thrown as caught:
            expect("the same exception", error, caught)
        expect("dead", [True, True], [target.dead, one.dead])
    expect("blocks left", 1, blocks.left.pop("outer"))
    blocks.check(("instance", "class", "exit", "inner"), depth)
    return 5


def handlers(worker):
    """Greenlets pause while they handle exceptions, each its own."""

    def handle(number):
        expect("an exception at the start", None, sys.exception())
        try:
            raise Thrown(number)
        except Thrown as error:
            pause(number)
            expect("the exception being handled", error, sys.exception())
            try:
                pause(number)
                raise KeyError(number)
            except KeyError as second:
                pause(number)
                expect("the exception being handled", second, sys.exception())
                expect("its context", error, second.__context__)
            try:
                raise
            except Thrown as again:
                expect("the exception raised again", error, again)
        expect("an exception at the end", None, sys.exception())
        return number

    try:
        raise Thrown("outside")
    except Thrown as error:
        expect("results", list(range(8)), interleave(worker.random, handle, range(8)))
        expect("the exception being handled", error, sys.exception())
    return 8


def generators(worker):
    """Generators and async generators pause, and are suspended in greenlets."""

    def count(name):
        with blocks.block(name):
            for value in range(10):
                pause(value)
                yield value

    async def acount(name):
        for value in count(name):
            yield value

    def consume(name):
        return sum(value for value in count(name))

    def aconsume(name):
        total, values = 0, acount(name)
        while True:
            try:
                values.asend(None).send(None)
            except StopIteration as step:
                total += step.value
            except StopAsyncIteration:
                return total

    blocks = Blocks()
    for function in consume, aconsume:
        names = [(function, number) for number in range(3)]
        expect("sums", [45] * 3, interleave(worker.random, function, names))
    shared = count("shared")
    for number in range(2):  # a generator goes from one greenlet to another
        one = greenlet(functools.partial(next, shared))
        value = one.switch()
        with contextlib.suppress(ValueError):  # it is executing
            end(WRONG, f"expected that a generator is not resumed twice, got {next(shared)}")
        expect("the next value", number, one.switch(value))
    shared.close()
    one = greenlet(consume)
    one.switch("dropped")
    del one
    expect("blocks left", [1] * 8, list(blocks.left.values()))
    return 8


VARIABLE = contextvars.ContextVar("VARIABLE", default="default")


def contexts(worker):
    """Greenlets have contexts of their own, share one, or enter another."""

    def own(start):
        expect("the context variable at the start", start, VARIABLE.get())
        for step in range(5):
            mine = [step]
            VARIABLE.set(mine)
            pause(step)
            expect("the context variable is the own one", True, VARIABLE.get() is mine)

    def run(start):
        own(start)
        inside = VARIABLE.get()
        contextvars.Context().run(own, "default")
        expect("the context variable after Context.run()", True, VARIABLE.get() is inside)

    outside = VARIABLE.set("outside")
    interleave(worker.random, own, ["default"] * 4)
    interleave(worker.random, run, ["default"])  # with more, they would have to end in reverse
    current = getcurrent().gr_context
    for context, after in (contextvars.copy_context(), "outside"), (current, [4]):
        one = greenlet(own)
        one.gr_context = context
        value = one.switch("outside")
        expect("the variable in gr_context", [0], one.gr_context[VARIABLE])
        while not one.dead:
            value = one.switch(value)
        expect("the context variable outside", after, VARIABLE.get())
    VARIABLE.reset(outside)
    return 7


PROFILER = threading.Lock()


def tracing(worker):
    """greenlet.settrace() tells of each switch, and sys.setprofile() of each call and return."""

    def run(pauses):
        for _ in range(pauses):
            pause()
        if pauses == 3:
            raise Thrown

    def trace(event, arguments):
        events.append((event, *arguments))

    def profile(frame, event, argument):
        calls[event] += frame.f_code in (run.__code__, pause.__code__)

    events, calls, pauses = [], Counter(), [worker.random.randrange(6) for _ in range(6)]
    expect("the trace function before", None, package.settrace(trace))
    profiled = PROFILER.acquire(blocking=False)  # all threads get slower; one at a time is enough
    if profiled:
        sys.setprofile(profile)
    for number in pauses:
        one = greenlet(run)
        with contextlib.suppress(Thrown):
            one.switch(number)
            while not one.dead:
                one.switch(None)
    if profiled:
        sys.setprofile(None)
        PROFILER.release()
        number = len(pauses) + sum(pauses)
        expect("calls and returns", [number, number], [calls["call"], calls["return"]])
    package.settrace(None)
    switches, throws = 2 * (len(pauses) + sum(pauses)), pauses.count(3)
    kinds = Counter(event for event, *_ in events)
    expect("events", [switches - throws, throws], [kinds["switch"], kinds["throw"]])
    targets = [getcurrent(), *(target for *_, target in events)]
    expect("where they came from", targets, [*(origin for _, origin, _ in events), getcurrent()])
    return switches


SOURCE = """
def start(pause):
    return outer(pause) + CONSTANT
def outer(pause):
    return inner(pause)
def inner(pause):
    pause()
    return Class().method(pause)
class Class:
    def method(self, pause):
        pause()
        return 2
CONSTANT = 40
"""


def forgotten(worker):
    """Suspended greenlets are all that is left of the functions and classes that they run."""
    modules, watched = [], []
    for _ in range(10):
        names = {"__name__": "forgotten"}
        exec(SOURCE, names)
        modules.append((names, greenlet(names["start"])))
        modules[-1][1].switch(pause)
    for going in ("outer", "inner"), ("Class",):
        for names, _ in modules:
            watched += [weakref.ref(names.pop(name)) for name in going]
        collect()
        # CPython 3.14.7 itself may collect a function that is running; so they are kept for that.
        kept = [one() for one in watched]
        expect("how much of what is in use is gone", 0, kept.count(None))
        results = [one.switch(None) for _, one in modules]
        del kept
    expect("results", [42] * 10, results)
    del modules, names, _
    until(lambda: not any(one() for one in watched), collect, "that what is not used is collected")
    return 10


def dropped(worker):
    """Greenlets that nobody refers to any more are killed."""
    blocks = Blocks()
    waiting = [blocks.suspended(name) for name in range(30)]
    worker.random.shuffle(waiting)
    while waiting:
        waiting.pop()
    blocks.check(range(30))
    return 30


DROPS = queue.SimpleQueue()


def drop():
    """What the other thread does: it has the last references to some, and drops those of others."""
    while True:
        waiting, has_some, has_the_last = DROPS.get()
        some = waiting[::2]
        has_some.set()
        has_the_last.wait()
        some.clear()
        waiting.clear()


def given_away(worker):
    """Greenlets that another thread drops are killed by their own, as soon as it makes calls."""
    blocks, has_some, has_the_last = Blocks(), threading.Event(), threading.Event()
    waiting = [blocks.suspended(name) for name in range(20)]
    DROPS.put((waiting, has_some, has_the_last))
    has_some.wait()
    del waiting[::2]
    has_the_last.set()
    until(lambda: len(blocks.left) == 160, getcurrent, "that greenlets are killed")
    blocks.check(range(20))
    return 20


def given_away_and_not_collected(worker):
    """The same, while nobody collects garbage."""
    with collecting:
        thresholds = gc.get_threshold()
        gc.set_threshold(0)  # gc.disable() would not do: a switch in another thread may undo it
        cycle = Blocks()
        cycle.itself = cycle
        reference = weakref.ref(cycle)
        del cycle
        until(lambda: not reference(), gc.collect, "that a collection which had begun is over")
        given_away(worker)
        gc.set_threshold(*thresholds)
    return 20


def crowds(worker):
    """Thousands of greenlets of one thread are alive at once."""
    blocks, names = Blocks(), worker.random.sample(range(2000), 2000)
    # Not in tuples, which might be another thread's to delete, and then not at once.
    crowd = [blocks.suspended(name, 0) for name in names]
    for name, one in zip(names[:1000], crowd, strict=False):
        expect("what is returned", None, one.switch(name))
    del one
    crowd.clear()
    blocks.check(names, 0)
    return len(names)


def ending_threads(worker):
    """Threads use greenlets, and end with some suspended; these are killed with their variables.

    Greenlets that somebody else still refers to are dead afterwards, their `finally` blocks have
    not run, and what is in their variables may leak; so it is documented. So only a few of those.
    """

    def run(name):
        idents.append(threading.get_ident())
        interleave(random.Random(name), pause, range(5))
        waiting = [blocks.suspended((name, number)) for number in range(5)]
        local.waiting = waiting[:2]
        if warming_up() and worker.done["ending_threads"] < 10:
            outlasting.append(lost.suspended(name))

    blocks, lost, local, idents, outlasting = Blocks(), Blocks(), threading.local(), [], []
    threads = [threading.Thread(target=run, args=(name,)) for name in range(2)]
    for act in threading.Thread.start, threading.Thread.join:
        for thread in threads:
            act(thread)
    blocks.check([(name, number) for name in range(2) for number in range(5)], threads=idents)
    for one in outlasting:
        expect("dead", True, one.dead)
        with contextlib.suppress(package.error):
            end(WRONG, f"expected that it cannot be resumed, got {one.switch()}")
    outlasting.clear()
    # Where the variables do not leak (3.15), generators among them are closed, as any other one.
    blocks_left = {name: count for name, count in lost.left.items() if name[-1] == "finally"}
    expect("blocks left", {}, blocks_left)
    return 10


class Derived(greenlet):
    def __init__(self, log, *function):
        super().__init__(*function)
        self.log = log

    def __del__(self):
        self.log.append("deleted")


class Running(Derived):
    def run(self, value):
        self.itself = self
        pause(value)


def subclasses(worker):
    """Instances of a subclass, and weak references to them, go when they should."""

    def function(value):
        with blocks.block("function"):
            pause(value)

    log = []
    for state, switches in ("unstarted", 0), ("suspended", 1), ("finished", 2):
        blocks, one = Blocks(), Derived(log, function)
        for _ in range(switches):
            one.switch(state)
        reference = weakref.ref(one, lambda _: log.append("gone"))
        del one
        expect(f"a reference to a greenlet that was {state}", None, reference())
        expect("what happened to it", ["deleted", "gone"], sorted(log))
        expect("blocks left", min(switches, 1), blocks.left["function"])
        log.clear()
    one = Running(log)
    one.switch("a cycle")
    one.switch("a cycle")
    del one
    until(lambda: log, collect, "that a cycle with a finished greenlet is collected")
    expect("what happened to it", ["deleted"], log)
    return 4


def cycles(worker):
    """Suspended greenlets in cyclic garbage are killed, by their own thread when it makes calls."""

    def collect_and_call():
        collect()
        getcurrent()

    blocks = Blocks()
    for name in range(5):
        one = blocks.suspended(name)
        one.itself = one
    del one
    until(lambda: len(blocks.left) == 40, collect_and_call, "that greenlets in cycles are killed")
    blocks.check(range(5))
    return 5


def dropped_at_exit(worker):
    """Greenlets are dropped by another thread while their own one ends; only a few, as above."""

    def run():
        waiting.extend(blocks.suspended(name) for name in range(5))
        ready.set()

    blocks, waiting, ready = Blocks(), [], threading.Event()
    if warming_up() and worker.done["dropped_at_exit"] < 20:
        thread = threading.Thread(target=run)
        thread.start()
        ready.wait()
        waiting.clear()
        thread.join()
        expect("blocks left at most once", True, set(blocks.left.values()) <= {1})
        # Generators among variables that do not leak (3.15) are closed where these are dropped.
        expect("in other threads", set(), blocks.killers - {thread.ident})
    return 5


KINDS = [
    bridges,
    pipelines,
    deep,
    native,
    locking,
    lookups,
    throws,
    handlers,
    generators,
    contexts,
    tracing,
    forgotten,
    dropped,
    given_away,
    given_away_and_not_collected,
    crowds,
    ending_threads,
    subclasses,
    cycles,
    dropped_at_exit,
]
