# Greets whoever the event names, as a server. WEBrick is a gem of its own since Ruby 3.0:
# Debian installs it along with Ruby, elsewhere say `gem install webrick`.
require 'json'
require 'webrick'

server = WEBrick::HTTPServer.new(Port: ENV.fetch('FC_SERVER_PORT', 9000), AccessLog: [])
server.mount_proc '/invoke' do |request, response|
  name = request.body.to_s.dup.force_encoding('UTF-8').strip
  warn "#{request['x-fc-request-id']} greeting '#{name}'"
  exit! 1 if name == 'crash' # WEBrick would answer an exception with a page
  if name.empty?
    response.status = 404
    response['x-fc-status'] = '404'
    response.content_type = 'application/json'
    response.body = JSON.generate(errorMessage: 'there is nobody to greet', errorType: 'NoName')
  else
    response.body = "Hello, #{name}!"
  end
end
trap('TERM') { server.shutdown }
server.start
