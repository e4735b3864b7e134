<?php
// Greets whoever the event names: the event is on standard input, the answer on
// standard output, and what is written to standard error becomes the log.
$name = trim(stream_get_contents(STDIN));
fwrite(STDERR, getenv('FC_REQUEST_ID') . " greeting '$name'\n");
if ($name === '') {
    fwrite(STDERR, "there is nobody to greet\n");
    exit(1);
}
echo "Hello, $name!";
