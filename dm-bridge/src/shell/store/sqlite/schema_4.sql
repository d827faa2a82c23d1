-- What device and server prove themselves by to each other; the password where it goes over the
-- wire itself.
ALTER TABLE device ADD COLUMN auth TEXT NOT NULL DEFAULT 'md5';
ALTER TABLE device ADD COLUMN server_password TEXT;
