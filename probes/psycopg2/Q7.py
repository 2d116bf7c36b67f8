# /// script
# requires-python = ">=3.14"
# dependencies = ["psycopg2==2.9.13"]
#
# [tool.freewheel.probe]
# defect = "Q7"
# title = "the error of a failed COMMIT is replaced by what another thread does"
# releases = "<=2.9.13"
# use = "supported"
# passes = "the commit fails with its own error, and the query gets its answer"
# fails-by = ["wrong answer", "exception", "crash", "hang"]
# needs = ["postgresql"]
# runs = { baseline = 15, patched = 9 }
# seconds = 60
# ///
"""Q7: the error of a failed COMMIT is replaced by what another thread does.

Use:        a shared connection: commit() fails in one thread (a deferred constraint), while another
            one waits to execute a query. With the GIL and without.
Symptom:    OperationalError: unknown error; the error of another thread; or a crash.
Cause:      the failed result stays in the connection when its lock is given back, and is made an
            exception after that. The next command frees it.

Shows:      the text of the error is decoded by a codec in Python, which starts a query in another
            thread, and goes on when that is done, or when it has waited for a moment.

Needs PostgreSQL: FREEWHEEL_POSTGRES_DSN=postgresql://user@127.0.0.1:5432/postgres
"""

import codecs
import os
import sys
import threading

import psycopg2
import psycopg2.errors
import psycopg2.extensions

WRONG, NOT_RUN = 3, 77
MOMENT = 0.2  # seconds: the query must wait for the commit, so that only time ends this
SETUP = """
CREATE FUNCTION pg_temp.refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE unique_violation USING MESSAGE = 'its own error'; END $$;
CREATE TEMP TABLE q7 (number int);
CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON q7 DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION pg_temp.refuse();
"""


class Codec:
    """ASCII, but with a query in another thread while the text of the error is decoded."""

    def __init__(self):
        self.during = None

    def decode(self, data, errors="strict"):
        if self.during and b"its own error" in data:
            thread = threading.Thread(target=self.during)
            self.during = None
            thread.start()
            thread.join(MOMENT)
        return data.decode("ascii", errors), len(data)

    def find(self, name):
        if name == "q7_codec":
            return codecs.CodecInfo(codecs.lookup("ascii").encode, self.decode, name=name)
        return None


def attempt(connection, codec):
    """What goes wrong in one attempt, if anything."""
    other = connection.cursor()
    answers, done = [], threading.Event()

    def query():
        try:
            other.execute("SELECT repeat('x', 100000), 42")
            answers.append(other.fetchone()[1])
        except BaseException as error:
            answers.append(error)
        done.set()

    connection.cursor().execute("INSERT INTO q7 VALUES (1)")
    codec.during = query
    try:
        connection.commit()
        problem = "the commit did not fail"
    except psycopg2.errors.UniqueViolation as error:
        texts = (str(error), error.pgerror, error.diag.message_primary)
        problem = (
            any("its own error" not in str(text) for text in texts) and "its text is another one"
        )
    except psycopg2.Error as error:
        problem = repr(error)
    done.wait()
    connection.rollback()
    return problem or (answers != [42] and f"the query gave {answers}")


def main():
    dsn = os.environ.get("FREEWHEEL_POSTGRES_DSN")
    if not dsn:
        print("Q7: set FREEWHEEL_POSTGRES_DSN to the DSN of a PostgreSQL server")
        return NOT_RUN
    codec = Codec()
    codecs.register(codec.find)
    psycopg2.extensions.encodings["WIN1250"] = "q7_codec"
    connection = psycopg2.connect(dsn)
    connection.set_client_encoding("WIN1250")
    connection.cursor().execute(SETUP)
    connection.commit()
    for _ in range(3):
        if problem := attempt(connection, codec):
            print(f"Q7: {problem}")
            return WRONG
    print("Q7: each commit had its own error")
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # threads may be waiting for what never comes
