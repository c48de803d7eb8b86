"""An integration of one's own: visits into any database that has transactions, here SQLite; each time only what is new.

``python -m examples.mirror exp-1 visits.sqlite``. Kill it whenever you like, and run it again: every row is there once.
"""

import sqlite3
import sys
from contextlib import closing

from distinct_async import etl

_SCHEMA = """
CREATE TABLE IF NOT EXISTS visits (experience_id, touchpoint_id, position, user_id, timestamp_utc);
CREATE TABLE IF NOT EXISTS state (experience_id, list, state, PRIMARY KEY (experience_id, list));
"""


def mirror(experience_id: str, path: str, batch_rows: int = 50_000) -> int:
    """Append what is new to the table `visits`, in one transaction with the state behind it; return the rows."""
    with closing(sqlite3.connect(path)) as database:
        database.executescript(_SCHEMA)
        state = dict(database.execute("SELECT list, state FROM state WHERE experience_id = ?", [experience_id]))
        rows = 0
        for batch in etl.read(experience_id, state=state, batch_rows=batch_rows):
            columns = (batch[name].to_pylist() for name in ("experience_id", "touchpoint_id", "position", "user_id"))
            times = [str(time) for time in batch["timestamp_utc"].to_pylist()]
            with database:  # commits both, or neither
                insert = "INSERT INTO visits VALUES (?, ?, ?, ?, ?)"
                database.executemany(insert, zip(*columns, times, strict=True))
                states = [(experience_id, *each) for each in state.items()]
                database.executemany("INSERT OR REPLACE INTO state VALUES (?, ?, ?)", states)
            rows += len(batch)
    return rows


if __name__ == "__main__":
    print(mirror(sys.argv[1], sys.argv[2]), "new rows")
