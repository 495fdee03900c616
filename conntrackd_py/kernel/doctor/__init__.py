"""The ruleset doctor: reads the rulesets in force and names what conflicts with conntrackd-py."""
