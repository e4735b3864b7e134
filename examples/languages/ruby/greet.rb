# Greets whoever the event names: the event is on standard input, the answer on
# standard output, and what is written to standard error becomes the log.
name = $stdin.read.strip
warn "#{ENV['FC_REQUEST_ID']} greeting '#{name}'"
abort 'there is nobody to greet' if name.empty?
print "Hello, #{name}!"
