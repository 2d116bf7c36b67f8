# /// script
# requires-python = ">=3.9"
# dependencies = ["greenlet==3.5.6"]
#
# [tool.freewheel.benchmark]
# title = "greenlets that are created, run and switched"
# use = "supported"
# seconds = 30
# [tool.freewheel.benchmark.cases]
# create = "create a greenlet and run it to its end, as SQLAlchemy does for each statement"
# switch = "switch to a suspended greenlet and back"
# deep = "switch to a greenlet that is suspended 50 calls deep, and back"
# alive = "create 100 greenlets, suspend them, and end them"
# alone = "resume a generator and come back, without greenlet: what the interpreter reaches"
# ///
"""What greenlets cost. `nox -s bench-greenlet` measures it; docs/benchmarks.md has the figures.

Every worker has functions of its own: threads that share one count its references in turn, and
that, too, is a cost, but none of greenlet's.
"""

from greenlet import getcurrent, greenlet

BATCH = 500


def create():
    def run():
        pass

    while True:
        for _ in range(BATCH):
            greenlet(run).switch()
        yield BATCH


def switch():
    return _switches(depth=1)


def deep():
    return _switches(depth=50)


def _switches(depth):
    main = getcurrent()

    def run(left):
        if left > 1:
            run(left - 1)
        else:
            while True:
                main.switch()

    suspended = greenlet(run)
    suspended.switch(depth)
    there = suspended.switch
    try:
        while True:
            for _ in range(BATCH):
                there()
            yield 2 * BATCH
    finally:
        suspended.throw()


def alive():
    main = getcurrent()

    def run():
        main.switch()

    while True:
        greenlets = [greenlet(run) for _ in range(100)]
        for one in greenlets:
            one.switch()
        for one in greenlets:
            one.switch()
        yield len(greenlets)


def alone():
    def run():
        while True:
            yield

    resume = run().__next__
    while True:
        for _ in range(BATCH):
            resume()
        yield 2 * BATCH
