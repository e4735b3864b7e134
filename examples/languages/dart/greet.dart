// Greets whoever the event names: the event is on standard input, the answer on
// standard output, and what is written to standard error becomes the log.
import 'dart:convert';
import 'dart:io';

Future<void> main() async {
  final name = (await utf8.decodeStream(stdin)).trim();
  stderr.writeln("${Platform.environment['FC_REQUEST_ID']} greeting '$name'");
  if (name.isEmpty) {
    stderr.writeln('there is nobody to greet');
    exitCode = 1;
    return;
  }
  stdout.write('Hello, $name!');
}
