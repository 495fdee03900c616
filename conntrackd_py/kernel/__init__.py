"""The only room that uses the kernel's interfaces: packet queues, addresses, steering rules, listening sockets."""
