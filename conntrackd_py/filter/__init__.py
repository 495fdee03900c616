"""The filter: its chains and verdicts, and the syntax of nft and iptables for rules and ct expressions."""
