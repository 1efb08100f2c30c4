"""What waits and steers: the gate, the poller, the session and the batch."""
