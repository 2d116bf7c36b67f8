# /// script
# requires-python = ">=3.14"
# dependencies = ["greenlet==3.5.6"]
#
# [tool.freewheel.probe]
# defect = "G10"
# title = "a greenlet is corrupted by threads that it does not belong to"
# releases = ">=3.3.1,<=3.5.6"
# use = "misuse"
# passes = "other threads get exceptions or answers, and the greenlet is none the worse"
# fails-by = ["wrong answer", "crash", "hang"]
# runs = { baseline = 8, patched = 20 }
# seconds = 60
# ///
"""G10: a greenlet is corrupted by threads that it does not belong to.

Only the thread that started a greenlet can switch to it; any other one gets an exception. But
before greenlet finds out, it has already put the arguments of the call into the greenlet, where its
own thread may be about to put or take others. So the greenlet gets what somebody else has passed,
or nothing, or memory that is freed twice.

Also, a greenlet whose thread has ended is cleaned up by the next thread that looks at it. If two
do that at once, both free its frames. And if two threads are the first to ask for its __dict__,
each gets another one.

3.4.0 mended all that, except where the thread that looks does so by repr(), as whoever logs it or
prints it does, and the message of the exception above. 3.5.6 still has it.

With the GIL, none of that happens, because all these are single steps.

Shows:      by arrangement, not by luck, so that it takes no two threads at work in the same
            microsecond. Greenlets of ended threads have tens of MiB of saved stack. They are freed
            under the interpreter's own debug hooks (PYTHONMALLOC=debug), which overwrite what is
            freed: that takes milliseconds, longer than a thread is let run at a time on a busy
            machine. Whoever comes meanwhile and frees the same memory is told so by the hooks,
            which abort the process.
"""

import os
import sys
import sysconfig
import threading
import time

from greenlet import error, getcurrent, greenlet

WRONG_ANSWER, NOT_RUN = 3, 77
SWITCHES = 20_000  # of the owner, while others try in each way
LEVELS = 50_000  # of C calls: 300 to 500 bytes each, all of them saved
LOOKERS = 4
ROUNDS = 8
GREENLETS = 2000  # whose __dict__ is asked for


def in_threads(*functions):
    """Call the functions at the same time, each in a thread of its own."""
    barrier = threading.Barrier(len(functions))

    def run(function):
        barrier.wait()
        function()

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def echo(parent, value):
    while True:
        value = parent.switch(value)


def interfere(attempt):
    """What the owner of a greenlet got wrong while two other threads made an ``attempt`` on it."""
    shared, stop, wrong = [], [], []

    def owner():
        one = greenlet(echo)
        one.switch(getcurrent(), 0)
        shared.append(one)
        for count in range(SWITCHES):
            if wrong:
                break
            try:
                answer = one.switch(count)
            except BaseException as caught:
                answer = caught
            if answer != count:
                wrong.append(f"{answer!r} instead of {count}")
        stop.append(True)

    def other():
        while not shared:
            time.sleep(0.001)
        while not stop:
            try:
                attempt(shared[0])
            except error:
                pass
            else:
                wrong.append("another thread has switched to it")

    in_threads(owner, other, other)
    return wrong


def switch(one):
    one.switch("of another thread")


def switch_with_keywords(one):
    one.switch(of="another thread")


def throw(one):
    one.throw(ValueError("of another thread"))


def make_orphan():
    """A suspended greenlet with a large stack, whose thread has ended."""
    made = []

    def deeper(left):
        if left:
            min([left - 1], key=deeper)
        else:
            getcurrent().parent.switch()

    def run():
        made.append(greenlet(deeper))
        made[0].switch(LEVELS)

    sys.setrecursionlimit(10 * LEVELS)
    before = threading.stack_size(1 << 28)
    in_threads(run)
    threading.stack_size(before)
    return made[0]


def look_at_orphans(is_dead):
    """Threads find out, by the function given, if a greenlet is dead, and clean up after it."""
    alive = []
    for _ in range(ROUNDS):
        one = make_orphan()

        def look(one=one):
            if not is_dead(one):
                alive.append(one)

        in_threads(*[look] * LOOKERS)
    return alive


def ask_orphans():
    return look_at_orphans(lambda one: one.dead)


def print_orphans():
    return look_at_orphans(lambda one: repr(one).endswith("dead>"))


def use_dicts():
    """Two threads add to the __dict__ of greenlets, from both ends, so that they meet."""
    greenlets = [greenlet(int) for _ in range(GREENLETS)]

    def one():
        for each in greenlets:
            each.__dict__["one"] = True

    def other():
        for each in reversed(greenlets):
            each.__dict__["other"] = True

    in_threads(one, other)
    return ["an entry is lost" for each in greenlets if len(each.__dict__) != 2]


def main():
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        print("G10: not a free-threaded interpreter")
        return NOT_RUN
    if os.environ.get("PYTHONMALLOC") != "debug":
        environment = {**os.environ, "PYTHONMALLOC": "debug"}
        os.execve(sys.executable, sys.orig_argv, environment)  # noqa: S606  no shell is wanted
    for attempt in (switch, switch_with_keywords, throw):
        if wrong := interfere(attempt):
            print(f"G10: {attempt.__name__}: {wrong[0]}")
            return WRONG_ANSWER
    for case in (ask_orphans, print_orphans, use_dicts):
        if wrong := case():
            print(f"G10: {case.__name__}: {wrong[0]}, {len(wrong)} times")
            return WRONG_ANSWER
    return 0


if __name__ == "__main__":
    sys.exit(main())
