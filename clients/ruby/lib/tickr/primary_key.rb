# frozen_string_literal: true

# For ActiveRecord, which it does not load: the ID of a new record is a ticket.
module Tickr
  # To be included in a model, or in ApplicationRecord for all of them. An ID that is there already
  # stays.
  class PrimaryKey < Module
    def initialize(client)
      super()
      define_singleton_method(:included) do |model|
        model.before_create { self.id ||= client.get_ticket if self.class.primary_key }
      end
    end
  end
end
