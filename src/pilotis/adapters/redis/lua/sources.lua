-- Of the documents ARGV[3..], each with the tag of its business unit before it: those that something was made from which is still served.
local found = {}
for i = 3, #ARGV do
  local tag, document = string.match(ARGV[i], '^([^:]+):(.*)$')
  for _, key in ipairs(call('SMEMBERS', prefix .. 'doc:' .. ARGV[i])) do
    if string.find(key, ':' .. string.sub(run, 1, 12) .. ':', 1, true) and is_kept(key, tag) then
      found[#found + 1] = document
      break
    end
  end
end
return found
