-- Delete checkpoints and everything that only they use: n, (ns, id)*n, run*: these runs have no checkpoint left here.
-- Returns how many checkpoints are left.
local wrong, known = check_format()
if wrong then return wrong end
if not known then return 0 end
local doomed = {}
local names = 1 + 2 * tonumber(ARGV[1])
for i = 2, names, 2 do doomed[ARGV[i] .. '\0' .. ARGV[i + 1]] = true end
local runs = {}
for i = names + 1, #ARGV do runs[#runs + 1] = 'r' .. ARGV[i] end
return sweep(doomed, runs)
