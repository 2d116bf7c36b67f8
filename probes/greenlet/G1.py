"""G1: a collection frees the functions, code and classes that suspended greenlets are still using.

Releases:   all greenlet releases with CPython 3.14, free-threaded, with the GIL on or off.
Use:        a greenlet is suspended inside a function whose other references go away (a module
            is reloaded, a function replaced, the name of a class rebound); something collects
            garbage; the greenlet is resumed. One thread is enough.
Symptom:    segmentation fault, or the wrong code runs.
Cause:      free-threaded CPython does not count most references from frames to functions, code,
            classes and modules; its collector looks for them in the frames of running threads.
            The frames of greenlets that are suspended are not among those.

Shows:      greenlets are suspended while their frames have the only references to such objects;
            garbage is collected; weak references tell if the objects are still there. Only if
            they are, the greenlet is resumed. At the end, the objects have to be gone.

Pass (0):   in all cases, all objects outlive the collection, and no longer than the greenlet.
Fail (1):   in some case an object is gone while a frame uses it, or left over at the end.
Not run (2): no greenlet, or not a free-threaded interpreter.
"""

import gc
import os
import sys
import threading
import weakref


class NotRun(Exception):
    pass


class Case:
    """Names that can be forgotten, and weak references to what they named."""

    def __init__(self, source, **names):
        self.names = dict(names, __name__="case")
        exec(source, self.names)
        self.watched = {}

    def watch(self, *names):
        for name in names:
            value = self.names[name]
            self.watched[name] = weakref.ref(value)
            if hasattr(value, "__code__"):
                self.watched[f"{name}'s code"] = weakref.ref(value.__code__)

    def forget(self):
        for name in self.watched:
            self.names.pop(name, None)

    def gone(self):
        return [name for name, reference in self.watched.items() if reference() is None]


def collect():
    for _ in range(2):
        gc.collect()


def collect_in_thread():
    thread = threading.Thread(target=collect)
    thread.start()
    thread.join()


FUNCTION = """
def start(pause):
    value = 41
    pause()
    return value + one
one = 1
"""

NESTED = """
def inner(pause, depth):
    if depth:
        return inner(pause, depth - 1) + 1
    pause()
    return 0
def middle(pause):
    return sum(map(lambda function: function(pause, 40), [inner]))
def start(pause):
    return middle(pause) + 2
"""

GENERATOR = """
def items(pause):
    yield 40
    pause()
    yield 2
def start(pause):
    return sum(items(pause))
"""

EXCEPTION = """
class Error(Exception):
    pass
def fail():
    raise Error(42)
def start(pause):
    try:
        try:
            fail()
        finally:
            pause()
    except Error as error:
        pause()
        return error.args[0]
"""

CLASS_ON_STACK = """
class Answer:
    value = 42
    def __init__(self, ignored):
        pass
def start(pause):
    return Answer(pause()).value
"""

CLASS_IN_LOCAL = """
class Answer:
    value = 42
def start(pause):
    kind = Answer
    pause()
    return kind.value
"""

METHOD = """
class Answer:
    def method(self, pause):
        pause()
        return 42
def start(pause):
    return Answer().method(pause)
"""

MODULE = """
import types
module = types.ModuleType("module")
module.value = 42
def start(pause):
    local = module
    pause()
    return local.value
"""

CASES = {
    "function": (FUNCTION, ["start"]),
    "nested calls": (NESTED, ["start", "middle", "inner"]),
    "generator": (GENERATOR, ["start", "items"]),
    "exception": (EXCEPTION, ["start", "fail"]),
    "class on the stack": (CLASS_ON_STACK, ["start", "Answer"]),
    "class in a local variable": (CLASS_IN_LOCAL, ["start", "Answer"]),
    "method": (METHOD, ["start", "Answer"]),
    "module in a local variable": (MODULE, ["start", "module"]),
}


def suspended(source, names, collect):
    """The greenlet is suspended."""
    from greenlet import getcurrent, greenlet

    case = Case(source)
    case.watch(*names)
    one = greenlet(case.names["start"])
    result = one.switch(getcurrent().switch)
    case.forget()
    while not one.dead:
        collect()
        gone = case.gone()
        if gone:
            KEEP.append(one)
            return f"gone: {', '.join(gone)}"
        result = one.switch()
    if result != 42:
        return f"the result is {result!r}"
    return left_over(case)


def parent(source, names, collect):
    """The greenlet has a child that is running."""
    from greenlet import greenlet

    case = Case(source)
    case.watch(*names)

    def child():
        case.forget()
        collect()
        gone = case.gone()
        if gone:  # we can't return to the parent
            finish(1, f"G1: {title}: gone: {', '.join(gone)}")

    def pause():
        greenlet(child).switch()

    result = greenlet(case.names["start"]).switch(pause)
    if result != 42:
        return f"the result is {result!r}"
    return left_over(case)


def left_over(case):
    collect()
    left = [name for name in case.watched if name not in case.gone()]
    return f"left over: {', '.join(left)}" if left else None


KEEP = []
title = None


def finish(status, line=None):
    if line:
        print(line)
    sys.stdout.flush()
    os._exit(status)  # what's suspended in freed code must not be touched again


def main():
    global title
    import sysconfig

    import greenlet  # noqa: F401

    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        raise NotRun("not a free-threaded interpreter")
    failures = 0
    for how in (suspended, parent):
        for where in (collect, collect_in_thread):
            for name, (source, names) in CASES.items():
                title = f"{name}, {how.__name__}, {where.__name__}"
                problem = how(source, names, where)
                if problem:
                    failures += 1
                    print(f"G1: {title}: {problem}")
    print(f"G1: {failures} of {4 * len(CASES)} cases failed")
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        status = main()
    except Exception as error:
        print(f"G1: could not run: {error!r}")
        status = 2
    finish(status)
