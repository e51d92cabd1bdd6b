-- What the end of a migration means for the batch that asked for it.

-- One migration has ended, in the step that ends its record.
local function item_ended()
end
