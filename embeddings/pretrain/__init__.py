"""Self-supervised training of a backbone on unlabelled scans: pixels -> views -> method -> loop -> weights and card."""
