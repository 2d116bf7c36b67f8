# /// script
# requires-python = ">=3.14"
# dependencies = ["psycopg==3.3.9"]
#
# [tool.freewheel.probe]
# defect = "C13"
# title = "the value of a result is read after another thread has cleared it"
# releases = "<=3.3.9"
# use = "misuse"
# passes = "the value, None, or an exception"
# fails-by = ["wrong answer", "crash", "exception"]
# needs = ["postgresql"]
# runs = { baseline = 15, patched = 9 }
# seconds = 60
# ///
"""C13: the value of a result is read after another thread has cleared it.

Use:        a pq.PGresult is cleared in one thread while another one reads it. With the GIL and
            without.
Symptom:    the text of something else, or a crash.
Cause:      clear() frees the memory at once.

Shows:      a trace function stops the thread that reads where it has the address of the value;
            meanwhile another one clears the result. The C library overwrites what is freed.

Needs PostgreSQL: FREEWHEEL_POSTGRES_DSN=postgresql://user@127.0.0.1:5432/postgres
"""

import os
import sys
import threading

if "MALLOC_PERTURB_" not in os.environ:  # so that what was freed can be told
    os.environ["MALLOC_PERTURB_"] = "165"
    os.environ["PSYCOPG_IMPL"] = "python"  # this is about that one
    os.execv(sys.executable, [sys.executable, *sys.argv])  # noqa: S606  this program, once more

from psycopg import pq

WRONG, NOT_RUN = 3, 77


def main():
    dsn = os.environ.get("FREEWHEEL_POSTGRES_DSN")
    if not dsn:
        print("C13: set FREEWHEEL_POSTGRES_DSN to the DSN of a PostgreSQL server")
        return NOT_RUN

    pgconn = pq.PGconn.connect(dsn.encode())
    result = pgconn.exec_(b"SELECT repeat('x', 1000)")
    code = pq.PGresult.get_value.__code__

    def trace(frame, event, arg):
        if frame.f_code is code and event == "line" and "v" in frame.f_locals:
            sys.settrace(None)
            frame.f_trace = None
            thread = threading.Thread(target=result.clear)
            thread.start()
            thread.join()
        return trace

    sys.settrace(trace)
    value = result.get_value(0, 0)
    sys.settrace(None)
    print(f"C13: {value[:20] if value else value}")
    return 0 if value in (None, b"x" * 1000) else WRONG


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # threads may be waiting for what never comes
