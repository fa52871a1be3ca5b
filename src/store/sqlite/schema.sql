-- One row per build. `num` is the order of acceptance; AUTOINCREMENT, so that it is never given twice and the events of a
-- deleted build, which are removed little by little, can belong to no other.
CREATE TABLE build (
    num         INTEGER PRIMARY KEY AUTOINCREMENT,
    id          TEXT    NOT NULL UNIQUE,
    owner       TEXT    NOT NULL,
    state       TEXT    NOT NULL,
    revision    INTEGER NOT NULL,
    last_seq    INTEGER NOT NULL,
    fence       INTEGER NOT NULL DEFAULT 0,
    lease_until INTEGER,                      -- on the process's own clock; NULL: no worker has it
    lease_ms    INTEGER NOT NULL DEFAULT 0,   -- how long the lease was given for
    log_batch   INTEGER NOT NULL DEFAULT 0,   -- the newest batch of lines of this claim
    priority    INTEGER NOT NULL,
    requeued    INTEGER NOT NULL DEFAULT 0,   -- 1: goes before those that were never claimed
    ended_at    INTEGER,                      -- Unix milliseconds
    hot         INTEGER NOT NULL DEFAULT 1,   -- 0: the events have gone into the archive
    record      TEXT    NOT NULL              -- the domain's record, JSON
) STRICT;

CREATE INDEX build_of_owner ON build (owner, id);
CREATE INDEX build_of_owner_in_state ON build (owner, state, id);
CREATE INDEX build_in_state ON build (state, id);
CREATE INDEX build_in_queue ON build (owner, requeued DESC, priority DESC, num) WHERE state = 'queued';
CREATE INDEX build_leased ON build (lease_until) WHERE lease_until IS NOT NULL;
CREATE INDEX build_unarchived ON build (ended_at) WHERE hot = 1 AND ended_at IS NOT NULL;

CREATE TABLE dockerfile (num INTEGER PRIMARY KEY REFERENCES build (num) ON DELETE CASCADE, content BLOB NOT NULL) STRICT;
CREATE TABLE sealed (num INTEGER PRIMARY KEY REFERENCES build (num) ON DELETE CASCADE, content BLOB NOT NULL) STRICT;

-- The destinations of a build, for lists: one row per image, and one with the tag '' per repository, which stands for any tag.
CREATE TABLE image (
    repository TEXT NOT NULL,
    tag        TEXT NOT NULL,
    id         TEXT NOT NULL,
    owner      TEXT NOT NULL,
    PRIMARY KEY (repository, tag, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX image_of_owner ON image (owner, repository, tag, id);

CREATE TABLE event (
    build INTEGER NOT NULL,
    seq   INTEGER NOT NULL,
    at    INTEGER NOT NULL,
    body  TEXT    NOT NULL,
    PRIMARY KEY (build, seq)
) STRICT, WITHOUT ROWID;
-- Builds whose events are to be removed when the writer has time.
CREATE TABLE doomed (build INTEGER PRIMARY KEY) STRICT;

-- Whose turn it is: the owner with the smallest `last` among those that have builds waiting. `waiting` is kept by triggers,
-- so that it cannot part from the queue.
CREATE TABLE turn (owner TEXT PRIMARY KEY, last INTEGER NOT NULL, waiting INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX turn_next ON turn (last, owner) WHERE waiting > 0;
CREATE TRIGGER build_queued AFTER INSERT ON build WHEN new.state = 'queued' BEGIN
    INSERT INTO turn (owner, last, waiting) VALUES (new.owner, 0, 1) ON CONFLICT (owner) DO UPDATE SET waiting = waiting + 1;
END;
CREATE TRIGGER build_requeued AFTER UPDATE OF state ON build WHEN old.state <> 'queued' AND new.state = 'queued' BEGIN
    UPDATE turn SET waiting = waiting + 1 WHERE owner = new.owner;
END;
CREATE TRIGGER build_dequeued AFTER UPDATE OF state ON build WHEN old.state = 'queued' AND new.state <> 'queued' BEGIN
    UPDATE turn SET waiting = waiting - 1 WHERE owner = new.owner;
END;
CREATE TRIGGER build_deleted AFTER DELETE ON build WHEN old.state = 'queued' BEGIN
    UPDATE turn SET waiting = waiting - 1 WHERE owner = old.owner;
END;

-- One row: the number of the newest turn, and what a ping writes.
CREATE TABLE meta (one INTEGER PRIMARY KEY CHECK (one = 1), turn INTEGER NOT NULL, pinged INTEGER NOT NULL) STRICT;
INSERT INTO meta VALUES (1, 0, 0);

CREATE TABLE removal (
    node     TEXT NOT NULL,
    build    TEXT NOT NULL,
    image_id TEXT,
    PRIMARY KEY (node, build)
) STRICT, WITHOUT ROWID;
CREATE TABLE removal_outcome (build TEXT PRIMARY KEY, outcome TEXT NOT NULL, at INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE lock (key TEXT PRIMARY KEY, holder TEXT NOT NULL, until INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE token (hash BLOB PRIMARY KEY, record TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE worker (worker TEXT PRIMARY KEY, info TEXT NOT NULL, seen INTEGER NOT NULL) STRICT, WITHOUT ROWID;
