"""The only room that touches the machine: packet queues, addresses, steering rules."""
