"""Access: who asks, what they may do, and the rule of every route."""
