-- The software component that a campaign brings, and what is done with it.
ALTER TABLE campaign ADD COLUMN software TEXT;
ALTER TABLE campaign ADD COLUMN software_operation TEXT;
