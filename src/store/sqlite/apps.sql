-- Runs are listed by their app.
ALTER TABLE object ADD COLUMN parent TEXT;
CREATE INDEX object_of_parent ON object (kind, parent, num) WHERE parent IS NOT NULL;
