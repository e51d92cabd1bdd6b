-- What the end of a migration means for the batch that asked for it.

-- The drain that this migration belongs to, or "".
local function drain_of()
  return ''
end

-- One migration has ended, in the step that ends its record.
local function item_ended()
end
