"""What makers run: training and evaluating the demo checkpoint."""
