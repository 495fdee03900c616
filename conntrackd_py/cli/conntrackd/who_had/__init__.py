"""`conntrackd-py who-had`: files -> lines -> records -> search (the only one that judges) -> main (prints)."""
