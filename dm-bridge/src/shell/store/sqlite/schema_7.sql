-- How a device's client is spoken to, and what its next session tells it.
ALTER TABLE device ADD COLUMN profile TEXT NOT NULL DEFAULT 'standard';
ALTER TABLE device ADD COLUMN quirks TEXT NOT NULL DEFAULT '';
ALTER TABLE device ADD COLUMN rest TEXT;
