"""The client against real sockets: every fault of the table, a storm, and the life of a client."""
