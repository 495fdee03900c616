"""A firewall of iptables or nft -> [[nat]] and [[raw]] rules of the configuration."""
