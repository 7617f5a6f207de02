"""Access: who asks, what they may do, and which permission each act needs."""
