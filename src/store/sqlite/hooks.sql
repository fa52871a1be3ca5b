-- Builds that have ended and are still to be told to their owner's webhooks; `record` when the build itself is gone.
CREATE TABLE ended (
    num    INTEGER PRIMARY KEY AUTOINCREMENT,
    id     TEXT NOT NULL UNIQUE,
    record TEXT
) STRICT;
