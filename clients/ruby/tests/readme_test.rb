# frozen_string_literal: true

# The first sample of the page is run as it stands, against a server at another address; those for
# ActiveRecord are run by orm/run.

require_relative "helper"

class ReadmeTest < Case
  README = File.expand_path("../README.md", __dir__)

  def test_the_samples_work
    samples = File.read(README).scan(/^```ruby\n(.*?)^```/m).flatten
    assert_equal 5, samples.size
    samples.each { |sample| RubyVM::InstructionSequence.compile(sample) }
    scope = binding
    scope.eval(samples[0].gsub(/"(http|unix):[^"]*"/, good.url.inspect))
    assert_equal 1, scope.local_variable_get(:ticket)
    assert_equal [*2..1001], scope.local_variable_get(:batch)
    scope.local_variable_get(:client).close
  end
end
