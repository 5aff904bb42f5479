"""How queues leave for annotators and how their labels come back."""
