-- One object, unless its time is over.
-- ARGV: kind, id. Answers {id, owner, order, revision, body}, or nothing.
return live_object(ARGV[1], ARGV[2], millis())
