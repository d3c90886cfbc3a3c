"""Events of calls on their way to customers' servers: what they say, and how they get there."""
