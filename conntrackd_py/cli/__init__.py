"""The commands: conntrackd/ is conntrackd-py, conntrack/ is conntrack-py."""
