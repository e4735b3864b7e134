<?php
// Greets whoever the event names, for PHP's own server: it runs this file for every
// request, and writes what error_log() gets to the log.
$name = trim(file_get_contents('php://input'));
error_log("{$_SERVER['HTTP_X_FC_REQUEST_ID']} greeting '$name'");
if ($name === 'crash') {
    posix_kill(posix_getpid(), 9);  // an exit() would end this request alone
}
if ($name === '') {
    http_response_code(404);
    header('x-fc-status: 404');
    header('Content-Type: application/json');
    echo json_encode(['errorMessage' => 'there is nobody to greet', 'errorType' => 'NoName']);
} else {
    echo "Hello, $name!";
}
