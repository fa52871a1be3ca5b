-- The build and the store's time, from which a change is computed.
-- ARGV: id. Answers {milliseconds, build or false}.
return {int(millis()), stored(ARGV[1]) or false}
