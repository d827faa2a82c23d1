-- What a device is to be told of its policy and what it answered, as JSON.
ALTER TABLE device ADD COLUMN policy TEXT;
