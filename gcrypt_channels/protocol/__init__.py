"""Sans-IO sessions: frames in, events out, one object per connection, no await."""
