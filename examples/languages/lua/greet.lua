-- Greets whoever the event names: the event is on standard input, the answer on
-- standard output, and what is written to standard error becomes the log.
local name = io.read("a"):match("^%s*(.-)%s*$")
io.stderr:write(os.getenv("FC_REQUEST_ID"), " greeting '", name, "'\n")
if name == "" then
    error("there is nobody to greet")
end
io.write("Hello, ", name, "!")
