"""The local stack: broker, Valkey, registry and the processes of the chain on one machine."""
