-- A node has dealt with a removal.
-- ARGV: node, id, outcome, seconds that it is kept.
call('HDEL', key('rm', ARGV[1]), ARGV[2])
call('SET', key('rmo', ARGV[2]), ARGV[3], 'EX', ARGV[4])
wake('b ' .. ARGV[2])
