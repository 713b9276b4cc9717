"""The test kit of the chassis: a real private nats-server, a log in memory, the checks that every saga gets for free."""
