-- Times are milliseconds since 1970-01-01T00:00:00Z, identifiers are text as people write them.
CREATE TABLE device (
    id               TEXT PRIMARY KEY,
    version          INTEGER NOT NULL,
    manufacturer     TEXT NOT NULL,
    model            TEXT NOT NULL,
    vendor           TEXT NOT NULL,
    class            TEXT NOT NULL,
    url              TEXT NOT NULL,
    object           TEXT NOT NULL,
    user             TEXT NOT NULL,
    secret           BLOB NOT NULL,
    next_nonce       BLOB,
    challenge_nonce  BLOB,
    challenge_session TEXT,
    challenge_made   INTEGER,
    failures         INTEGER NOT NULL,
    failing_since    INTEGER NOT NULL,
    firmware_version TEXT,
    enrolled         INTEGER NOT NULL,
    last_seen        INTEGER
) STRICT;

-- Sequences take all of 64 bits, so they are kept as decimal text.
CREATE TABLE campaign (
    number           INTEGER PRIMARY KEY AUTOINCREMENT,
    id               TEXT NOT NULL UNIQUE,
    version          INTEGER NOT NULL,
    digest           BLOB NOT NULL,
    epoch            INTEGER NOT NULL,
    sequence         TEXT NOT NULL,
    vendor           TEXT NOT NULL,
    classes          TEXT NOT NULL,
    firmware_version TEXT NOT NULL,
    not_before       INTEGER NOT NULL,
    latest_stop      INTEGER NOT NULL,
    sources          TEXT NOT NULL,
    stored_bytes     INTEGER NOT NULL,
    largest_block    INTEGER NOT NULL,
    campaign_paper   BLOB NOT NULL,
    manifest_paper   BLOB NOT NULL,
    root_paper       BLOB NOT NULL,
    root_version     INTEGER NOT NULL,
    carousel_url     TEXT NOT NULL,
    token_file       TEXT NOT NULL,
    group_address    TEXT NOT NULL,
    port             INTEGER NOT NULL,
    report_spread    INTEGER NOT NULL,
    state            TEXT NOT NULL,
    window_opens     INTEGER,
    window_closes    INTEGER,
    window_revision  INTEGER,
    air_source       TEXT,
    air_tsi          INTEGER,
    air_revision     INTEGER,
    air_opened       INTEGER,
    problem          TEXT,
    created          INTEGER NOT NULL
) STRICT;

CREATE TABLE plan_header (
    campaign  TEXT NOT NULL,
    component INTEGER NOT NULL,
    header    BLOB NOT NULL,
    PRIMARY KEY (campaign, component)
) STRICT;

CREATE TABLE arming (
    device         TEXT NOT NULL,
    campaign       TEXT NOT NULL,
    attempt        INTEGER NOT NULL,
    version        INTEGER NOT NULL,
    correlator     TEXT NOT NULL UNIQUE,
    phase          TEXT NOT NULL,
    armed_revision INTEGER NOT NULL,
    result_code    INTEGER,
    reason         TEXT,
    read_back      TEXT,
    updated        INTEGER NOT NULL,
    PRIMARY KEY (campaign, device, attempt)
) STRICT;

CREATE INDEX arming_by_device ON arming (device, campaign, attempt);

CREATE TABLE audit (
    number  INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    actor   TEXT NOT NULL,
    action  TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail  TEXT NOT NULL,
    seal    BLOB NOT NULL
) STRICT;
