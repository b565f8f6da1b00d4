"""From weights and gates to orders at a broker: guards, sizing, the executor, brokers."""
