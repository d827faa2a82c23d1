-- The keys that secrets are sealed with, by their ids; the latest one seals.
CREATE TABLE sealing_key (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id     BLOB NOT NULL UNIQUE
) STRICT;
