-- The origin of the place of a FUMO object: assumed, learnt or set.
ALTER TABLE device ADD COLUMN object_origin TEXT NOT NULL DEFAULT 'assumed';
-- The steps that an attempt has taken.
ALTER TABLE arming ADD COLUMN marks TEXT NOT NULL DEFAULT '';
