# Greets whoever the event names: the event is on standard input, the answer on
# standard output, and what is written to standard error becomes the log.
$name = [Console]::In.ReadToEnd().Trim()
[Console]::Error.WriteLine("$env:FC_REQUEST_ID greeting '$name'")
if (-not $name) {
    [Console]::Error.WriteLine('there is nobody to greet')
    exit 1
}
[Console]::Out.Write("Hello, $name!")
