# /// script
# requires-python = ">=3.14"
# dependencies = ["greenlet==3.5.6"]
#
# [tool.freewheel.probe]
# defect = "G6"
# title = "`finally` blocks of suspended greenlets that cyclic garbage refers to are skipped"
# releases = "<=3.5.6"
# use = "supported"
# passes = "each block runs once, in its greenlet's thread, with all that it uses; nothing is left"
# fails-by = ["wrong answer"]
# runs = { baseline = 10, patched = 30 }
# seconds = 30
# ///
"""G6: `finally` blocks of suspended greenlets that cyclic garbage refers to are skipped.

Affects     all greenlet releases with free-threaded CPython 3.14; with the GIL the blocks run.
When        objects that refer to each other, and one of them to a suspended greenlet, become
            garbage, and a collection finds that: tasks, connections, tracebacks, caches.
What        no GreenletExit is raised in the greenlet. What its `finally` and `with` blocks should
            have released stays locked, open or checked out.
Why         to the collector, the greenlet is garbage like the rest, so it is cleared, and its
            frames are dropped. With the GIL, the collector is not shown suspended greenlets, and
            they are killed when the last reference goes.

Shows it    a thread suspends greenlets in `try: ... finally: ...`, each part of a cycle or referred
            to by one, and drops it all. Either that thread collects garbage, or another one does
            and this one makes greenlet calls afterwards. The blocks call functions that only the
            greenlet's frames still refer to. Then nothing is left of functions and cycles.
"""

import gc
import sys
import sysconfig
import threading
import types

SOURCE = """
def used_at_the_end(ran):
    ran.append(get_ident())

def suspended(pause, ran, inner=None):
    function = used_at_the_end
    try:
        if inner:
            for _ in inner(pause):
                pass
        else:
            pause()
    finally:
        function(ran)

def generator(pause):
    yield 1
    pause()
"""
EACH = 3


class Node:
    pass


def cycle():
    node = Node()
    node.itself = node
    return node


def make(case, pause, ran):
    """Make garbage that holds a suspended greenlet."""
    from greenlet import greenlet

    class Subclass(greenlet):
        pass

    names = {"get_ident": threading.get_ident, "__name__": "case"}
    exec(SOURCE, names)  # functions that nothing else refers to
    node = cycle()
    kind = Subclass if case == "subclass" else greenlet
    node.greenlet = one = kind(names["suspended"])
    if case in ("in the cycle", "subclass"):
        one.node = node
    if case == "child":  # its parent is garbage, too
        node.greenlet = greenlet(names["suspended"], one)
        node.greenlet.switch(pause, ran)
        ran = []
    one.switch(pause, ran, *([names["generator"]] if case == "generator" else []))


def left():
    """How many of the cycles and functions there are."""
    names = {"Node", "suspended", "used_at_the_end", "generator"}
    objects = (o for o in gc.get_objects() if isinstance(o, Node | types.FunctionType))
    return sum(getattr(o, "__name__", type(o).__name__) in names for o in objects)


CASES = ("referred to", "in the cycle", "subclass", "generator", "child")


def own_collection(collect, calls):
    collect()


def other_collection(collect, calls):
    thread = threading.Thread(target=collect)
    thread.start()
    thread.join()
    calls()


def check(case, how):
    """What is wrong with the case; None if nothing is."""
    from greenlet import getcurrent

    ran = []
    for _ in range(EACH):
        make(case, getcurrent().switch, ran)
    how(gc.collect, getcurrent)
    if len(ran) != EACH:
        return f"{len(ran)} of {EACH} blocks ran"
    if set(ran) != {threading.get_ident()}:
        return "blocks ran in the wrong thread"
    gc.collect()
    kept = left()
    return f"{kept} objects are left" if kept else None


def main():
    import greenlet  # noqa: F401

    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        print("G6: not a free-threaded interpreter")
        return 77
    gc.disable()  # collections happen here, and nowhere else
    failed = False
    for how in (own_collection, other_collection):
        for case in CASES:
            wrong = check(case, how)
            failed |= wrong is not None
            print(f"G6: {case}, {how.__name__}: {wrong or 'fine'}")
    return 3 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
