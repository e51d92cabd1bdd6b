-- A request ended of which no record is kept: there is no id that one could be kept under.
-- ARGV: "", driver, flag set, outcome, reason
-- OK
count(ARGV[2], ARGV[3], ARGV[4], ARGV[5])
return {'OK'}
