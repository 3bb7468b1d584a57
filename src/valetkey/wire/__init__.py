"""HTTP/1.1 on sockets of our own loop: callers on one side, upstreams on the other. llhttp parses both."""
