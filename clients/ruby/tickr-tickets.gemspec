# frozen_string_literal: true

# The description of the package, for `gem build`.

require_relative "lib/tickr/version"

Gem::Specification.new do |spec|
  spec.name = "tickr-tickets"
  spec.version = Tickr::VERSION
  spec.summary = "Client of the Tickr ticket server: unique 64-bit IDs"
  spec.description = "Unique 64-bit IDs from Tickr servers, with fail-over, a cache that is safe " \
                     "between threads and over forks, and a mixin for ActiveRecord."
  spec.authors = ["The Tickr authors"]
  spec.license = "MIT"
  spec.required_ruby_version = ">= 2.7"
  spec.files = Dir.chdir(__dir__) { Dir["lib/**/*.rb", "README.md", "LICENSE"] }
  spec.metadata["rubygems_mfa_required"] = "true"
end
