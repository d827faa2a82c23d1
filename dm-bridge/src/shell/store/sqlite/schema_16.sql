-- Challenges are computed: from a key for each day, and the count of those that were answered.
ALTER TABLE device DROP COLUMN challenge_nonce;
ALTER TABLE device DROP COLUMN challenge_session;
ALTER TABLE device DROP COLUMN challenge_made;
ALTER TABLE device DROP COLUMN failures;
ALTER TABLE device DROP COLUMN failing_since;
ALTER TABLE device ADD COLUMN challenge_count INTEGER NOT NULL DEFAULT 0;
-- The networks from which a device has proved itself in the last day, as JSON.
ALTER TABLE device ADD COLUMN proved_from TEXT;

-- Days since 1970.
CREATE TABLE challenge_key (
    day INTEGER PRIMARY KEY,
    key BLOB NOT NULL
) STRICT;

-- Written and emptied again to see whether the database can be written.
CREATE TABLE probe (
    filler BLOB NOT NULL
) STRICT;
