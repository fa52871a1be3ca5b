-- Small records of an owner beside the builds. `num` is the order of making; AUTOINCREMENT, so that no cursor means two things.
CREATE TABLE object (
    num      INTEGER PRIMARY KEY AUTOINCREMENT,
    kind     TEXT    NOT NULL,
    id       TEXT    NOT NULL,
    owner    TEXT    NOT NULL,
    revision INTEGER NOT NULL,
    expires  INTEGER,                     -- Unix milliseconds; NULL: never
    body     TEXT    NOT NULL,
    UNIQUE (kind, id)
) STRICT;
CREATE INDEX object_of_kind ON object (kind, num);
CREATE INDEX object_of_owner ON object (kind, owner, num);
CREATE INDEX object_expiring ON object (expires) WHERE expires IS NOT NULL;

-- How often something was done; `ends` is on the process's own clock.
CREATE TABLE rate (key TEXT PRIMARY KEY, count INTEGER NOT NULL, ends INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX rate_ends ON rate (ends);

-- Who did what: appended, never changed.
CREATE TABLE audit (seq INTEGER PRIMARY KEY, entry TEXT NOT NULL) STRICT;

-- Tokens are objects now; those of before had neither scopes nor a checksum.
DROP TABLE token;

-- What an owner uses, kept by triggers so that it cannot part from the builds; `cap`: most builds in hands at once.
ALTER TABLE build ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;   -- of its Dockerfile and context
CREATE TABLE tenant (
    owner   TEXT PRIMARY KEY,
    builds  INTEGER NOT NULL,
    bytes   INTEGER NOT NULL,
    running INTEGER NOT NULL,
    cap     INTEGER
) STRICT, WITHOUT ROWID;
INSERT INTO tenant SELECT owner, count(*), 0, count(lease_until), NULL FROM build GROUP BY owner;
CREATE TRIGGER build_counted AFTER INSERT ON build BEGIN
    INSERT INTO tenant VALUES (new.owner, 1, new.bytes, 0, NULL)
    ON CONFLICT (owner) DO UPDATE SET builds = builds + 1, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER build_uncounted AFTER DELETE ON build BEGIN
    UPDATE tenant SET builds = builds - 1, bytes = bytes - old.bytes, running = running - (old.lease_until IS NOT NULL)
    WHERE owner = old.owner;
END;
CREATE TRIGGER build_taken AFTER UPDATE OF lease_until ON build WHEN (old.lease_until IS NULL) <> (new.lease_until IS NULL) BEGIN
    UPDATE tenant SET running = running + iif(new.lease_until IS NULL, -1, 1) WHERE owner = new.owner;
END;
CREATE TRIGGER build_transferred AFTER UPDATE OF owner ON build WHEN old.owner <> new.owner BEGIN
    UPDATE tenant SET builds = builds - 1, bytes = bytes - old.bytes WHERE owner = old.owner;
    INSERT INTO tenant VALUES (new.owner, 1, new.bytes, 0, NULL)
    ON CONFLICT (owner) DO UPDATE SET builds = builds + 1, bytes = bytes + excluded.bytes;
END;
