"""Where packets come from: packet queues, and copies of packets."""
