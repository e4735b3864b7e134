<?php
// What PHP's own server runs for every request.
$event = file_get_contents('php://input');
[$word, $rest] = explode(' ', substr($event, 0, 4096), 2) + ['', ''];
error_log("{$_SERVER['HTTP_X_FC_REQUEST_ID']} got " . strlen($event));
if ($word === 'crash') {
    posix_kill(posix_getpid(), SIGSEGV);
} elseif ($word === 'hang') {
    exec('sleep 61 >/dev/null 2>&1 &');
    while (true) {
        sleep(60);
    }
} elseif ($word === 'wait') {
    while (!file_exists($rest)) {
        usleep(10000);
        clearstatcache();
    }
}
echo $event;
