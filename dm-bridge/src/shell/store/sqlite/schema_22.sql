-- The part of an account that was the same for all devices.
ALTER TABLE device ADD COLUMN server_id TEXT NOT NULL DEFAULT 'fumocast';
ALTER TABLE device ADD COLUMN server_auth TEXT NOT NULL DEFAULT 'md5';
UPDATE device SET server_auth = auth;
ALTER TABLE device ADD COLUMN certificate TEXT;
ALTER TABLE device ADD COLUMN account_flags TEXT NOT NULL DEFAULT '';

-- A message with an HMAC names its user alone before it is parsed.
CREATE UNIQUE INDEX device_by_hmac_user ON device (user) WHERE auth = 'hmac';
