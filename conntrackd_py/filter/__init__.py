"""Match expressions over connections, in nft and iptables spelling, and the policy built of them."""
