"""Trading: from weights and gates to orders at a broker (guards, sizing, executor, brokers)."""
