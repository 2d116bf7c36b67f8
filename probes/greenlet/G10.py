# /// script
# requires-python = "==3.14.*"
# dependencies = ["greenlet==3.5.6"]
#
# [tool.freewheel.probe]
# defect = "G10"
# title = "a greenlet is corrupted by threads that it does not belong to"
# releases = ">=3.3.1,<=3.5.6"
# use = "misuse"
# passes = "other threads get exceptions or answers, and the greenlet is none the worse"
# fails-by = ["wrong answer", "crash", "hang"]
# runs = { baseline = 6, patched = 30 }
# seconds = 6
# exclusive = true
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
"""

import sys
import sysconfig
import threading
import time

from greenlet import error, getcurrent, greenlet

WRONG_ANSWER, NOT_RUN = 3, 77
SECONDS = 0.15  # for each way to switch
PATIENCE = 1000  # how often a thread looks for the other one; about 30 microseconds
YIELDS = 200  # how often it gives way before it looks again, if the other one is not running
ROUNDS = 5
PRINTED = 60  # rounds; the two threads have to come within less than a microsecond
GREENLETS = 200


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


def in_step(greenlets, first, second):
    """Call both functions with each greenlet, at the same time as nearly as possible."""
    at = [-1, -1]

    def walk(me, function):
        def run():
            for number, one in enumerate(greenlets):
                at[me] = number
                for _ in range(PATIENCE):
                    if at[not me] >= number:
                        break
                else:
                    for _ in range(YIELDS):
                        time.sleep(0)
                        if at[not me] >= number:
                            break
                function(one)

        return run

    in_threads(walk(0, first), walk(1, second))


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
        deadline = time.monotonic() + SECONDS
        count = 0
        while not wrong and time.monotonic() < deadline:
            count += 1
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


def orphans():
    """Suspended greenlets whose thread has ended."""
    greenlets = []

    def run():
        parent = getcurrent()
        for _ in range(GREENLETS):
            greenlets.append(greenlet(echo))
            greenlets[-1].switch(parent, 0)

    in_threads(run)
    return greenlets


def look_at_orphans(is_dead, rounds):
    """Two threads find out, by the function given, if greenlets are dead."""
    alive = []

    def look(one):
        if not is_dead(one):
            alive.append(one)

    for _ in range(rounds):
        in_step(orphans(), look, look)
    return alive


def ask_orphans():
    return look_at_orphans(lambda one: one.dead, ROUNDS)


def print_orphans():
    return look_at_orphans(lambda one: repr(one).endswith("dead>"), PRINTED)


def use_dicts():
    """Two threads add to the __dict__."""
    greenlets = [greenlet(int) for _ in range(ROUNDS * GREENLETS)]

    def one(each):
        each.__dict__["one"] = True

    def other(each):
        each.__dict__["other"] = True

    in_step(greenlets, one, other)
    return ["an entry is lost" for each in greenlets if len(each.__dict__) != 2]


def main():
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        print("G10: not a free-threaded interpreter")
        return NOT_RUN
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
