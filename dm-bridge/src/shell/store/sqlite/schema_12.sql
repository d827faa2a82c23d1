-- The desired policy of a device, as JSON.
ALTER TABLE device ADD COLUMN policy TEXT;
