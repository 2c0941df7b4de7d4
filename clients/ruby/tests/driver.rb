# frozen_string_literal: true

# The driver for ../../conformance.

require "json"
require "tickr/tickets"

def take(client, count, path)
  taken = []
  while taken.size < count || (path && !File.exist?(path))
    taken << client.get_ticket
    sleep 0.001 if path
  end
  taken
end

def threads(client, number, count, path)
  running = Array.new(number) do
    Thread.new do
      Thread.current.report_on_exception = false
      take(client, count, path)
    end
  end
  running.flat_map(&:value)
end

def forks(client, number, count)
  readers = Array.new(number) do
    reader, writer = IO.pipe
    fork do
      writer.write(JSON.generate(take(client, count, nil)))
      writer.close
      exit!
    end
    writer.close
    reader
  end
  taken = readers.flat_map { |reader| JSON.parse(reader.read) }
  Process.waitall
  taken
end

def tell(error)
  case error
  when Tickr::Unavailable then { kind: "unavailable", attempts: error.attempts }
  when Tickr::Refused then { kind: "refused", server: error.server, detail: error.detail }
  when ArgumentError then { kind: "invalid" }
  when IOError then { kind: "closed" }
  else raise error
  end
end

def open(servers:, timeout:, cache:, **settings)
  settings[:timeout] = timeout if timeout
  Tickr::Client.new(servers: servers, cache_size: cache, **settings)
end

client = nil
$stdin.each_line do |line|
  command = JSON.parse(line, symbolize_names: true)
  count, taken, error = command.fetch(:count, 0), [], nil
  begin
    case command.delete(:do)
    when "open" then client = open(**command)
    when "next" then taken << client.get_ticket while taken.size < count
    when "take" then taken = client.tickets(count)
    when "threads" then taken = threads(client, command[:threads], count, command[:until])
    when "fork" then taken = forks(client, command[:fork], count)
    else client.close
    end
  rescue StandardError => raised
    error = tell(raised).merge(message: raised.message)
  end
  puts JSON.generate(tickets: taken.map(&:to_s), error: error)
  $stdout.flush
end
