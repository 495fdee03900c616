"""The commands conntrackd-py and conntrack-py."""
