-- The tables, version 2. Codes (state, kind, event, stage, ...) are positions in the tables of rows.py.
-- Times are spool time in milliseconds unless a column says otherwise.

-- name: meta
-- Small facts: the spool's own name, the number of this start, whether the last stop was clean, what the runner remembers.
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- name: time_mark
-- One row: a moment on all clocks, from which spool time goes on after a restart.
CREATE TABLE time_mark (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    boot_id     TEXT    NOT NULL,
    boottime_ms INTEGER NOT NULL,
    wall        REAL    NOT NULL,
    spool_ms    INTEGER NOT NULL
) STRICT;

-- name: message
-- A message as it was accepted. "file" names a large body; a small one is a row of "body". "compression", "key_id" (a
-- fingerprint) and "salt" say how the body is sealed; size and checksum are those of the body itself.
CREATE TABLE message (
    id            INTEGER PRIMARY KEY,
    name          TEXT    NOT NULL UNIQUE,
    sender_local  TEXT    NOT NULL,
    sender_domain TEXT    NOT NULL,
    arrived       INTEGER NOT NULL,
    received_at   REAL    NOT NULL,
    size          INTEGER NOT NULL,
    body_kind     INTEGER NOT NULL,
    envid         TEXT    NOT NULL,
    ret           TEXT    NOT NULL,
    address       TEXT    NOT NULL,
    host          TEXT    NOT NULL,
    helo          TEXT    NOT NULL,
    protocol      TEXT    NOT NULL,
    login         TEXT    NOT NULL,
    uid           INTEGER,
    checksum      BLOB    NOT NULL,
    file          TEXT,
    last_ordinal  INTEGER NOT NULL,
    compression   TEXT    NOT NULL DEFAULT '',
    key_id        TEXT,
    salt          BLOB
) STRICT;

-- name: message_key
-- Which keys are still needed.
CREATE INDEX message_key ON message (key_id) WHERE key_id IS NOT NULL;

-- name: body
-- Small bodies, apart from their messages so that a listing does not read them.
CREATE TABLE body (
    message INTEGER PRIMARY KEY REFERENCES message ON DELETE CASCADE,
    content BLOB NOT NULL
) STRICT;

-- name: recipient
-- Recipients as given at RCPT.
CREATE TABLE recipient (
    message      INTEGER NOT NULL REFERENCES message ON DELETE CASCADE,
    number       INTEGER NOT NULL,
    local        TEXT    NOT NULL,
    domain       TEXT    NOT NULL,
    orcpt        TEXT    NOT NULL,
    notify       INTEGER NOT NULL,
    notify_given INTEGER NOT NULL,
    PRIMARY KEY (message, number)
) STRICT, WITHOUT ROWID;

-- name: lane
-- Ids are never used twice: whoever still holds the id of a lane that was dropped meets no other lane.
CREATE TABLE lane (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    action       TEXT    NOT NULL,
    key          TEXT    NOT NULL,
    next_due     INTEGER,
    not_before   INTEGER NOT NULL DEFAULT 0,
    failures     INTEGER NOT NULL DEFAULT 0,
    last_failure INTEGER,
    last_error   TEXT    NOT NULL DEFAULT '',
    paused       INTEGER NOT NULL DEFAULT 0,
    parked       INTEGER NOT NULL DEFAULT 0,
    wake         INTEGER GENERATED ALWAYS AS (
        CASE WHEN paused OR parked THEN NULL ELSE max(next_due, not_before) END
    ) VIRTUAL,
    failing      INTEGER GENERATED ALWAYS AS (failures > 0) VIRTUAL,
    UNIQUE (action, key)
) STRICT;

-- name: lane_wake
-- Which lanes have something to do, and when. max() of two values is NULL when one is.
CREATE INDEX lane_wake ON lane (wake) WHERE wake IS NOT NULL;

-- name: lane_due
-- The same for one action, those whose route fails apart: nothing that may not be tried now is read over to find what may.
CREATE INDEX lane_due ON lane (action, failing, wake) WHERE wake IS NOT NULL;

-- name: envelope
-- One final destination. "recipient" is NULL for a report, which goes to the message's sender.
-- "asked" is what the operator wants of it once its attempt has ended; "recovered" says that an earlier start had it in flight;
-- "since" is when it was claimed last, "last_try" when an attempt ended last, "error" what came of that.
CREATE TABLE envelope (
    id        INTEGER PRIMARY KEY,
    message   INTEGER NOT NULL REFERENCES message,
    ordinal   INTEGER NOT NULL,
    recipient INTEGER,
    local     TEXT    NOT NULL,
    domain    TEXT    NOT NULL,
    user      TEXT    NOT NULL,
    extension TEXT    NOT NULL,
    target    TEXT    NOT NULL,
    lane      INTEGER NOT NULL REFERENCES lane,
    kind      INTEGER NOT NULL,
    state     INTEGER NOT NULL,
    due       INTEGER NOT NULL,
    deadline  INTEGER NOT NULL,
    warn_at   INTEGER,
    attempts  INTEGER NOT NULL DEFAULT 0,
    asked     INTEGER NOT NULL DEFAULT 0,
    recovered INTEGER NOT NULL DEFAULT 0,
    since     INTEGER,
    last_try  INTEGER,
    error     TEXT    NOT NULL DEFAULT '',
    FOREIGN KEY (message, recipient) REFERENCES recipient (message, number)
) STRICT;

-- name: envelope_name
CREATE UNIQUE INDEX envelope_name ON envelope (message, ordinal);

-- name: envelope_due
-- What a lane has to do next, whatever else is in it.
CREATE INDEX envelope_due ON envelope (lane, state, due);

-- name: envelope_inflight
-- What a crash leaves behind.
CREATE INDEX envelope_inflight ON envelope (lane) WHERE state = 1;

-- name: envelope_aside
-- What is held, and what is damaged.
CREATE INDEX envelope_aside ON envelope (state) WHERE state > 1;

-- name: envelope_deadline
CREATE INDEX envelope_deadline ON envelope (lane, deadline) WHERE state = 0;

-- name: envelope_warning
-- To whom a delay notice is owed, whatever lane it waits in.
CREATE INDEX envelope_warning ON envelope (warn_at) WHERE state = 0 AND warn_at IS NOT NULL;

-- name: envelope_report
-- The report about a message that more can be added to.
CREATE INDEX envelope_report ON envelope (message, kind) WHERE kind > 0;

-- name: report
-- What a report envelope is about: one row for each recipient.
CREATE TABLE report (
    id            INTEGER PRIMARY KEY,
    envelope      INTEGER NOT NULL REFERENCES envelope ON DELETE CASCADE,
    message       INTEGER NOT NULL,
    recipient     INTEGER NOT NULL,
    local         TEXT    NOT NULL,
    domain        TEXT    NOT NULL,
    user          TEXT    NOT NULL,
    extension     TEXT    NOT NULL,
    target        TEXT    NOT NULL,
    event         INTEGER NOT NULL,
    at            INTEGER NOT NULL,
    deadline      INTEGER NOT NULL,
    outcome       INTEGER NOT NULL,
    code          INTEGER NOT NULL,
    status        TEXT    NOT NULL,
    text          TEXT    NOT NULL,
    remote        TEXT    NOT NULL,
    stage         INTEGER NOT NULL,
    dsn_passed_on INTEGER NOT NULL
) STRICT;

-- name: report_envelope
CREATE INDEX report_envelope ON report (envelope);

-- name: intent
-- What is about to be appended to an mbox. Device and inode are kept as signed numbers.
CREATE TABLE intent (
    envelope INTEGER PRIMARY KEY REFERENCES envelope ON DELETE CASCADE,
    path     BLOB    NOT NULL,
    device   INTEGER NOT NULL,
    inode    INTEGER NOT NULL,
    offset   INTEGER NOT NULL,
    length   INTEGER NOT NULL,
    checksum BLOB    NOT NULL
) STRICT;

-- name: attempt
-- The history. No foreign key: it outlives its message.
CREATE TABLE attempt (
    id            INTEGER PRIMARY KEY,
    message       TEXT    NOT NULL,
    ordinal       INTEGER NOT NULL,
    sender        TEXT    NOT NULL,
    recipient     TEXT    NOT NULL,
    destination   TEXT    NOT NULL,
    event         INTEGER NOT NULL,
    started       INTEGER NOT NULL,
    ended         INTEGER NOT NULL,
    route         TEXT    NOT NULL,
    outcome       INTEGER NOT NULL,
    code          INTEGER NOT NULL,
    status        TEXT    NOT NULL,
    text          TEXT    NOT NULL,
    remote        TEXT    NOT NULL,
    stage         INTEGER NOT NULL,
    dsn_passed_on INTEGER NOT NULL
) STRICT;

-- name: attempt_message
CREATE INDEX attempt_message ON attempt (message);

-- name: drop_seen
-- Names of drop files that were accepted, so that reading one again changes nothing even after its message is gone.
CREATE TABLE drop_seen (
    id   INTEGER PRIMARY KEY,
    name TEXT    NOT NULL UNIQUE,
    at   INTEGER NOT NULL
) STRICT;
