-- The secret in the URLs at which an attempt gets its package.
ALTER TABLE arming ADD COLUMN package_secret TEXT;
CREATE UNIQUE INDEX arming_by_package_secret ON arming (package_secret)
    WHERE package_secret IS NOT NULL;

-- The devices of a campaign by the phase of their latest attempt.
CREATE TABLE phase_count (
    campaign TEXT NOT NULL,
    phase    TEXT NOT NULL,
    devices  INTEGER NOT NULL,
    PRIMARY KEY (campaign, phase)
) STRICT;

INSERT INTO phase_count (campaign, phase, devices)
SELECT campaign, phase, COUNT(*) FROM arming AS a
WHERE attempt = (SELECT MAX(attempt) FROM arming AS b
                 WHERE b.campaign = a.campaign AND b.device = a.device)
GROUP BY campaign, phase;

-- Every transaction that adds or changes an attempt keeps the counts.
CREATE TRIGGER latest_attempt_added AFTER INSERT ON arming
WHEN NOT EXISTS (SELECT 1 FROM arming WHERE campaign = new.campaign AND device = new.device
                 AND attempt > new.attempt)
BEGIN
    UPDATE phase_count SET devices = devices - 1
    WHERE campaign = new.campaign AND phase =
        (SELECT phase FROM arming WHERE campaign = new.campaign AND device = new.device
         AND attempt < new.attempt ORDER BY attempt DESC LIMIT 1);
    INSERT INTO phase_count (campaign, phase, devices) VALUES (new.campaign, new.phase, 1)
    ON CONFLICT DO UPDATE SET devices = devices + 1;
END;

CREATE TRIGGER latest_attempt_changed AFTER UPDATE OF phase ON arming
WHEN old.phase <> new.phase
    AND NOT EXISTS (SELECT 1 FROM arming WHERE campaign = new.campaign AND device = new.device
                    AND attempt > new.attempt)
BEGIN
    UPDATE phase_count SET devices = devices - 1
    WHERE campaign = old.campaign AND phase = old.phase;
    INSERT INTO phase_count (campaign, phase, devices) VALUES (new.campaign, new.phase, 1)
    ON CONFLICT DO UPDATE SET devices = devices + 1;
END;
