-- What a device knows this server by; absent on devices that were enrolled before.
ALTER TABLE device ADD COLUMN server_secret BLOB;
ALTER TABLE device ADD COLUMN server_nonce BLOB;
