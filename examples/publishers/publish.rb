# Publishes an event:   ruby publish.rb http URL DATA     ruby publish.rb redis URL CHANNEL DATA

require "net/http"
require "securerandom"

def publish_http(url, data)
  # With a key, the request can be repeated if there is no response.
  headers = { "Content-Type" => "text/plain", "Idempotency-Key" => SecureRandom.uuid }
  answer = Net::HTTP.post(URI(url), data, headers)
  raise "#{answer.code}: #{answer.body}" unless answer.is_a?(Net::HTTPSuccess)
  answer.body
end

def publish_redis(url, channel, data)
  require "redis" # gem install redis
  Redis.new(url: url).publish(channel, data)
end

how, *arguments = ARGV
puts how == "http" ? publish_http(*arguments) : publish_redis(*arguments)
