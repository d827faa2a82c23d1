-- What a device that asks for an update gets: of a campaign, and whatever the campaign says.
ALTER TABLE campaign ADD COLUMN on_request TEXT NOT NULL DEFAULT 'none';
ALTER TABLE device ADD COLUMN on_request TEXT;
