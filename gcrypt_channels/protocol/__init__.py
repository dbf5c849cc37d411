"""Floor 2: sans-IO sessions. Frames in, events out; one object per connection, and no await."""
