"""The steering rules: which packets go to the daemon, written for nft or iptables, installed, watched."""
