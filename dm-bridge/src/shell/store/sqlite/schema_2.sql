-- The roots that lead from the oldest that a device may hold to the one that vouches for the campaign.
CREATE TABLE root_paper (
    campaign TEXT NOT NULL,
    version  INTEGER NOT NULL,
    envelope BLOB NOT NULL,
    PRIMARY KEY (campaign, version)
) STRICT;

INSERT INTO root_paper (campaign, version, envelope) SELECT id, root_version, root_paper FROM campaign;
ALTER TABLE campaign DROP COLUMN root_paper;
ALTER TABLE campaign DROP COLUMN root_version;
