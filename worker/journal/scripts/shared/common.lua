-- Loaded in front of every other script, with the others of this folder after it. All time is Redis's own,
-- in milliseconds.
--
-- Keys, all below KEYS[1] (the prefix, "vmrelay:"):
--   m:<id>            hash    the record of one migration (fields: worker/journal/record.py)
--   m:<id>:events     stream  what happened to it, in order; field "type", field "data" (JSON)
--   m:<id>:tunings    list    wishes for the perform that runs now, oldest first: JSON {tuning, kind, value, requested_by}
--   vm:<uuid>         string  the migration that holds this domain: at most one at a time
--   pending           zset    id -> when it was asked for; waits for slots
--   due               zset    id -> when its next attempt may start; 0 once it stands in line again
--   active            zset    id -> last sign of life
--   doubt             zset    id -> since when
--   ended             zset    id -> when
--   all               zset    id -> when it was asked for; every migration that is remembered (lists.py)
--   queued:<id>       string  the web API told somebody this id of what no scheduler had taken yet; expires
--   unshown           zset    id -> when; ended, and AsyncResult does not show its result yet (outbox of results)
--   outcomes          hash    JSON [driver, flags, outcome, reason] -> how many migrations ended so
--   flagsets          set     the flag sets that are told apart there; later ones count as "other"
--   outbox            zset    id -> when its outstanding phase message is to be sent (again)
--   slots:<host>:out  set     migrations leaving the host now
--   slots:<host>:in   set     migrations arriving there now
--   slots:@<net>:net  set     migrations that use a migration network now
--   slots:#<flow>:run set     migrations of a flow that run now (slots.lua, queue.lua)
--   costs             hash    id -> how much it counts in these sets, where that is more than 1
--   limits            hash    out:<host>, in:<host>, net:<net> or all -> how many, where that is not what the settings say
--   sources           set     hosts that something waits to leave
--   flows:<source>    zset    flow -> since when the same migration has its turn to leave the host
--   line:<source>:<flow>  zset  destination -> when the first of its lane was asked for
--   lane:<source>:<destination>:<flow>  zset  id -> when it was asked for; stands in line
--   requesters        hash    flow -> how many stand in line; flows of requesters, not of batches
--   usage             hash    flow -> what it used, halved every half-life, up to now and without what runs; and when that was
--   half-life         string  milliseconds; as the scheduler that admitted last has it
--   lease:<host>      string  JSON of the agent that owns the host; expires
--   lease:<scheduler> string  JSON of a scheduler (node/pid/...), leading or not: where its metrics are; expires
--   contests          hash    host -> how often a second agent wanted it
--   schedulers        zset    scheduler (node/pid/...) -> last sign of life
--   taken:<scheduler> list    requests that it took from the queue and is not done with, as Celery wrote them
--   domains:<host>    hash    name -> JSON {name, uuid, state, ...}, "/<uuid>" -> name (no name has a slash)
--   domains:<host>:v  string  counts what changed that hash besides the agent's own look
--   domains:<host>:at string  when the look began that the hash was last replaced by
--   load:<host>       string  what its guests use, JSON (worker/loads.py); expires
--   cordons           hash    host -> JSON {by, reason, at, batch}: nothing is sent there (batch: the drain that did it)
--   rolls             zset    id -> when it was asked for; rolls that are not over
--   rolled            zset    id -> when; rolls that are
--   roll:<id>         hash    hosts that are drained one after the other (fields: Roll of worker/journal/rolls.py)
--   roll:<id>:events  stream  its steps, as those of a migration
--   batches           zset    id of a batch that has not finished -> since when
--   batches:ended     zset    id -> when it finished
--   batches:all       zset    id -> when it was asked for; every batch that is remembered
--   batch-items       hash    "<kind>:<state>" -> how many moves of batches ended so
--   b:<id>            hash    one batch: kind, state, request, counts (fields: worker/journal/batches.py)
--   b:<id>:items      hash    n -> JSON of the move: domain, uuid, source, destination, after, planned; or left, why
--   b:<id>:fates      hash    n -> JSON of what became of it: state, migration, code, why; nothing while it waits
--   b:<id>:open       zset    n -> n; waits
--   b:<id>:ready      zset    "<source>><destination>" (its lane), line feed, n; waits for nothing but its turn
--   b:<id>:lanes      zset    lane -> when it was last looked at; may have a move to ask for
--   b:<id>:load       hash    lane -> how many of its moves are asked for
--   b:<id>:wait       hash    n -> how many moves that it comes after are not made yet
--   b:<id>:then       hash    n -> those that come after it: "4,7"
--   b:<id>:asked      set     n; has a migration that has not ended
--   b:<id>:failed     set     n; failed
--   b:<id>:depends    set     n; skipped because of another one, left out by the plan, or towards a cordoned host
--   b:<id>:cancelled  set     n; its migration was cancelled, so no other plan moves its guest
--   b:<id>:doomed     hash    n -> a move before it that was not made; to be skipped
--   b:<id>:again      set     n; was not made, to be asked for again or replaced
--   b:<id>:tries      hash    n -> how often it was asked for, from the second time on
--   b:<id>:plan       string  JSON of what it is (being) filled with: a plan, or {moves}
--   b:<id>:events     stream  what happened to it, in order; field "type", field "data" (JSON)
--   b:<id>:controls   set     ids of the messages with which operators paused, resumed, cancelled or retried it
--   webhooks          hash    name -> JSON {tells, hosts, most}: what is to be noted for it, as the leading scheduler has it
--   webhook:<name>    hash    how it goes: failures (since the last success), until (it pauses), error, failed and told (when
--                             last), and how many were delivered, retried, refused, dropped, gave-up
--   webhook:<name>:waiting  zset  "<at> <type> <id of what it tells of>" -> at; not delivered yet (outbox of webhooks)
--   webhook:<name>:due      zset  the same -> when it is to be tried (again)
--   webhook:<name>:tries    hash  the same -> how often that failed
--   homes             hash    uuid of a domain -> JSON {host, domain, to, batch, at}: drained from host, and sent to to
--
-- Every script takes the migration's id (the batch's, where its name begins with batch-) as ARGV[1] and answers a list
-- whose first item is a word.

local prefix = KEYS[1]
local id = ARGV[1]
local record = prefix .. 'm:' .. id

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The same with a fraction, as text: for waits that last less than a millisecond.
local function exact()
  local time = redis.call('TIME')
  return string.format('%.3f', time[1] * 1000 + time[2] / 1000)
end

local function event(kind, data)
  redis.call('XADD', record .. ':events', 'MAXLEN', '~', 2000, '*', 'type', kind, 'data', data)
end

local function store(fields)
  local flat = {}
  for name, value in pairs(fields) do
    flat[#flat + 1] = name
    flat[#flat + 1] = value
  end
  if #flat > 0 then redis.call('HSET', record, unpack(flat)) end
end

-- What AsyncResult(id) shows meanwhile, as Celery's own back end writes it. In the same step as the
-- transition: no state of a phase can come after the outcome.
local function show(key, text, seconds)
  if key == '' then return end
  redis.call('SET', key, text, 'EX', seconds)
  redis.call('PUBLISH', key, text)
end

-- The answer to a request under the id of a record; where that was asked for with another request, its events tell it.
local function same_or_other(fields)
  local was, state = unpack(redis.call('HMGET', record, 'fingerprint', 'state'))
  if not was or not fields.fingerprint or was == fields.fingerprint then return 'SAME' end
  if state ~= 'ended' then event('conflict', cjson.encode({by = fields.requested_by or ''})) end
  return 'OTHER'
end

local function leave(...)
  for _, index in ipairs({...}) do redis.call('ZREM', prefix .. index, id) end
end

-- Perform is over: what was wished for meanwhile and not done is told so. Returns the kinds of these wishes.
local function too_late()
  local kinds = {}
  for _, wish in ipairs(redis.call('LRANGE', record .. ':tunings', 0, -1)) do
    local told = cjson.decode(wish)
    told.error = {code = 'too-late', message = 'perform ended before it was done'}
    event('tuned', cjson.encode(told))
    kinds[#kinds + 1] = told.kind
  end
  redis.call('DEL', record .. ':tunings')
  return kinds
end
