-- The ways to a device, and which one an attempt goes.
ALTER TABLE campaign ADD COLUMN ways TEXT NOT NULL DEFAULT 'broadcast';
ALTER TABLE campaign ADD COLUMN bundle_octets INTEGER NOT NULL DEFAULT 0;
ALTER TABLE campaign ADD COLUMN ask_user TEXT;
ALTER TABLE arming ADD COLUMN way TEXT NOT NULL DEFAULT 'broadcast';
