# frozen_string_literal: true

# The real server, started with a private MySQL server by `tickr dev`.

require "tickr/tickets"
require "tmpdir"

class LiveServer
  SECONDS = 60

  attr_reader :url

  def initialize(*arguments, password: nil)
    @folder = Dir.mktmpdir("tickr")
    @url = "unix:#{@folder}/tickr.sock"
    @password = password
    @command = [ENV.fetch("TICKR"), "dev", "--data-dir", "#{@folder}/data", "--listen", @url,
                "--database-pool-timeout", "20", *arguments]
    start
  end

  def mysql_socket
    "#{@folder}/data/mysql/mysql.sock"
  end

  def start
    log = ["#{@folder}/log", "a"]
    @pid = Process.spawn(*@command, in: File::NULL, out: log, err: log)
    client = Tickr::Client.new(servers: [@url], password: @password, timeout: SECONDS * 1000)
    deadline = Tickr.now + SECONDS
    begin
      client.get_ticket
    rescue Tickr::Error
      log = File.read("#{@folder}/log")
      raise "tickr does not start:\n#{log}" if Process.wait(@pid, Process::WNOHANG)

      Tickr.left(deadline) && sleep(0.05)
      retry
    end
    client.close
  end

  def stop
    Process.kill(:TERM, @pid)
    Process.wait(@pid)
  end

  def close
    stop
    FileUtils.remove_entry(@folder)
  end
end
