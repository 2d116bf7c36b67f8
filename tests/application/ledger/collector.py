"""Garbage collections at short intervals: what goes wrong only in one should do so soon."""

from __future__ import annotations

import gc
import os
import threading
import time


def collect_often() -> None:
    """Collect every ``LEDGER_COLLECT`` seconds, in a thread of its own; unset or 0, not at all."""
    interval = float(os.environ.get("LEDGER_COLLECT", "0"))

    def collect() -> None:
        while True:
            time.sleep(interval)
            gc.collect()

    if interval:
        threading.Thread(target=collect, name="collector", daemon=True).start()
