"""SIP: calls and registrations, and the media that they announce."""
