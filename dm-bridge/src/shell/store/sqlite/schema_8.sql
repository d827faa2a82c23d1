-- What a device holds of software components and what is to be done with it, as JSON.
ALTER TABLE device ADD COLUMN components TEXT;
