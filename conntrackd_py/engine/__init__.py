"""Who sits at which hook, in which order: a packet and the time go in, a verdict comes out."""
